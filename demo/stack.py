"""Services under load and the Airflow that releases them: started together, stopped together."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from demo.airflow import AirflowStack
from demo.load import Load, LoadProcess
from demo.rest import AirflowApi
from demo.shop import FIRST, ROOT

T = TypeVar("T")
SLEEPERS = '''
"""An Airflow DAG that takes worker slots."""
import time
from airflow.sdk import dag, task
@dag(schedule=None, is_paused_upon_creation=False, max_active_tasks=32)
def sleepers():
    @task
    def sleep(n): time.sleep(120)
    sleep.expand(n=list(range(8)))
sleepers()
'''
"""A DAG file whose runs hold the worker slots that a rollback must not need."""


class Released(Protocol):
    """
    A service that is released: ``demo/shop.py`` has one behind proxies, ``demo/kubernetes/services.py`` two on Kubernetes.

    ``database`` is None where it has none, ``behind`` says what is before it, ``entries`` how a person asks it, ``looks``
    what to type for a look at it, ``connections`` are Airflow's, as variables of the environment.
    """

    name: str
    services_folder: Path
    database: Any

    @property
    def behind(self) -> str: ...  # noqa: D102 - see above

    @property
    def entries(self) -> list[str]: ...  # noqa: D102

    @property
    def looks(self) -> list[str]: ...  # noqa: D102

    @property
    def connections(self) -> dict[str, str]: ...  # noqa: D102

    def load(self, rate: float) -> Load:
        """Return its users: requests a second."""
        ...

    def start(self) -> Any:
        """Start the first version on blue and what is before it, and write the service file."""
        ...

    def stop(self) -> None:
        """Stop it all."""
        ...


@dataclass(frozen=True)
class Stack:
    """
    What runs.

    :param shops: the services, all in one catalog
    :param airflow: the Airflow that releases them
    :param loads: the load on each service, by its name
    """

    shops: Sequence[Released]
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
        environment |= _connections(self.shops)
        command = [sys.executable, "-c", "import sys; from bluegreen.cli.main import main; sys.exit(main())"]
        done = subprocess.run([*command, *arguments], env=environment, capture_output=True, text=True, check=False)
        if done.returncode not in answers:
            raise RuntimeError(f"bluegreen {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout


def side_by_side(work: Mapping[str, Callable[[], T]], tick: Callable[[], None] = lambda: None) -> dict[str, T]:
    """
    Do all at the same time, and ``tick`` twice a second meanwhile.

    A signal leaves it at once: what still runs ends by itself when what it asks is stopped.
    """
    threads = ThreadPoolExecutor(len(work))
    try:
        at_work = {name: threads.submit(one) for name, one in work.items()}
        while not all(one.done() for one in at_work.values()):
            time.sleep(0.5)
            tick()
        return {name: one.result() for name, one in at_work.items()}
    finally:
        threads.shutdown(wait=False, cancel_futures=True)


@contextmanager
def running(
    shops: Sequence[Released],
    home: Path,
    rate: float,
    *,
    port: int | None = None,
    dags: Path = ROOT / "dags",
    settings: Mapping[str, str] | None = None,
    imports: Sequence[str] = (),
) -> Iterator[Stack]:
    """
    Start everything, each service adopted on blue and under load; stop it all in the end.

    :param home: Airflow's
    :param rate: requests a second on each service
    :param port: of Airflow's UI; a free one if not given
    :param settings: of Airflow, as variables of the environment
    :param imports: modules that tasks need and that take long
    """
    environment = {"BLUEGREEN_SERVICES": str(shops[0].services_folder), "PYTHONPATH": f"{ROOT / 'plugins'}:{ROOT}"}
    environment |= _connections(shops) | dict(settings or {})
    airflow = AirflowStack(home, dags, ROOT / "plugins", port=port, env=environment, imports=imports)
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


def _connections(shops: Sequence[Released]) -> dict[str, str]:
    return {name: told for shop in shops for name, told in shop.connections.items()}
