"""``make airflow``: a real Airflow on the services of this clone, to try it with; everything that it writes is in build/airflow."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading

from demo.airflow import AirflowStack, AirflowStackError
from demo.shop import ROOT

HOME = ROOT / "build" / "airflow"


def main() -> None:
    """Start it, say how to reach it, and stop it at Ctrl-C."""
    parser = argparse.ArgumentParser(prog="make airflow", description=__doc__)
    parser.add_argument("--port", type=int, default=8080, help="of its UI and API")
    port = parser.parse_args().port
    for ending in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ending, signal.default_int_handler)
    services = os.environ.get("BLUEGREEN_SERVICES", str(ROOT / "include" / "services"))
    environment = {"BLUEGREEN_SERVICES": services, "PYTHONPATH": f"{ROOT / 'plugins'}:{ROOT}"}
    # What connections the caller has in its environment, ours have, too: AIRFLOW_CONN_<ID>.
    environment |= {name: value for name, value in os.environ.items() if name.startswith("AIRFLOW_CONN_")}
    print(f"starting Airflow on {services} …", flush=True)
    try:
        with AirflowStack(HOME, ROOT / "dags", ROOT / "plugins", port=port, env=environment) as airflow:
            user, password = airflow.login
            print(f"It runs at {airflow.url}, login {user} / {password}. For the REST API, in another terminal:\n")
            print(f"export AIRFLOW_URL={airflow.url} AIRFLOW_USER={user} AIRFLOW_PASSWORD={password}\n")
            print("Ctrl-C stops it; database and logs stay in build/airflow.", flush=True)
            threading.Event().wait()
    except KeyboardInterrupt:
        print("\nstopped")
    except AirflowStackError as error:
        sys.exit(f"make airflow: {error}; another port: make airflow PORT=8090")


if __name__ == "__main__":
    main()
