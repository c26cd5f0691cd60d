"""Services under load and the Airflow that releases them: started together, stopped together."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from demo.airflow import AirflowStack
from demo.load import LoadProcess
from demo.rest import AirflowApi
from demo.shop import FIRST, ROOT, Shop


@dataclass(frozen=True)
class Stack:
    """
    What runs.

    :param shops: the services, all in one catalog
    :param airflow: the Airflow that releases them
    :param loads: the load on each service, by its name
    """

    shops: Sequence[Shop]
    airflow: AirflowStack
    loads: dict[str, LoadProcess]

    @property
    def catalog(self) -> Path:
        """The folder of the service files."""
        return self.shops[0].services_folder

    def rest(self) -> AirflowApi:
        """A client of its own, as each thread needs one."""
        return AirflowApi(self.airflow.url, *self.airflow.login)

    def bluegreen(self, *arguments: str, answers: Sequence[int] = (0,)) -> str:
        """
        Run the project's own command, as a person would, with no Airflow about it.

        :param answers: exit codes that are an answer
        :raises RuntimeError: it ended with another one
        """
        environment = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
        environment |= {"BLUEGREEN_SERVICES": str(self.catalog), "PYTHONPATH": str(ROOT / "plugins")}
        command = [sys.executable, "-c", "import sys; from bluegreen.cli.main import main; sys.exit(main())"]
        done = subprocess.run([*command, *arguments], env=environment, capture_output=True, text=True, check=False)
        if done.returncode not in answers:
            raise RuntimeError(f"bluegreen {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout


@contextmanager
def running(
    shops: Sequence[Shop], home: Path, rate: float, *, port: int | None = None, dags: Path = ROOT / "dags"
) -> Iterator[Stack]:
    """
    Start everything, each service adopted on blue and under load; stop it all in the end.

    :param home: Airflow's
    :param rate: requests a second on each service
    :param port: of Airflow's UI; a free one if not given
    """
    environment = {"BLUEGREEN_SERVICES": str(shops[0].services_folder), "PYTHONPATH": f"{ROOT / 'plugins'}:{ROOT}"}
    airflow = AirflowStack(home, dags, ROOT / "plugins", port=port, env=environment)
    loads = {shop.name: LoadProcess(shop.load(rate), home.parent, f"load-{shop.name}") for shop in shops}
    stack = Stack(shops, airflow, loads)
    try:
        with ThreadPoolExecutor() as threads:
            starting = [threads.submit(shop.start) for shop in shops]
            airflow.start()
            for each in starting:
                each.result()
        for shop in shops:
            stack.bluegreen("adopt", shop.name, "--version", FIRST, "--reason", "it begins")
        stack.rest().wait_dags({"guardian", *(f"release__{shop.name}" for shop in shops)}, 120)
        for load in loads.values():
            load.start()
        yield stack
    finally:
        for load in loads.values():
            load.kill()
        airflow.stop()
        for shop in shops:
            shop.stop()
