"""A real Airflow behind real HAProxy nodes, under load: started once, brought back to rest before each test."""

from __future__ import annotations

import io
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest

from bluegreen.cli.main import main
from demo.airflow import COMPONENTS, AirflowStack
from demo.load import Load, LoadProcess
from demo.processes import LOOPBACK, wait_until
from demo.rest import AirflowApi
from demo.shop import BAD, LOAD_PATHS, ROOT, Shop
from demo.stack import SLEEPERS
from tests.rigs.webhook import Webhook

T = TypeVar("T")

# A machine may be several times slower for an hour, and no test is about that: what must come is waited for far longer than
# it takes, and between two tasks of a release no lease runs out.
PATIENCE_S = 400
LEASE = "60s"
SHORT_LEASE = {"lease": "20s"}  # where the test is that it runs out
WATCH_S = 2
RATE = 150
# 10 % of the load in a watch are 30 requests: fewer than five of them are never seen, fewer than 20 now and then.
RULES = [{"type": "threshold", "metric": "error_rate", "max": 5, "min_requests": 5}]
# A proof that asks for this path is slow enough that a canary task can be caught while it runs.
SLOW_PROOF = {"entry": {"url": "http://shop.test/", "path": "/slow?seconds=0.1"}}


def pytest_collection_modifyitems(items):
    for item in items:
        if "tests/system" in str(item.fspath):
            item.add_marker(pytest.mark.system)
    # First what has an Airflow of its own: the stack, once started, would stand idle beside it under its load.
    items.sort(key=lambda item: "whole_stack" in item.fixturenames)


def eventually(predicate: Callable[[], T], what: str) -> T:
    """Wait for what must come, and return it."""
    return wait_until(predicate, PATIENCE_S, what, 0.2)  # each look costs Airflow, too


@dataclass
class Stack:
    """What a system test works with."""

    shop: Shop
    airflow: AirflowStack
    load: LoadProcess
    hook: Webhook
    versions: Any = field(default_factory=lambda: itertools.count(1))

    def __post_init__(self):
        self.api = AirflowApi(self.airflow.url, *self.airflow.login)
        self.dag = f"release__{self.shop.name}"

    def end_of(self, dag: str, run_id: str) -> dict[str, Any]:
        """Wait for a run's end, and return it."""
        return self.api.wait_run(dag, run_id, PATIENCE_S)

    def version(self) -> str:
        return f"2.{next(self.versions)}.0"

    def release(self, version: str | None = None, **params: Any) -> Run:
        version = version or self.version()
        return Run(self, version, self.api.trigger(self.dag, {"version": version, **params})["dag_run_id"])

    def bluegreen(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the command as a person would, with no Airflow about it."""
        environment = {k: v for k, v in os.environ.items() if not k.startswith("AIRFLOW")}
        environment |= {"BLUEGREEN_SERVICES": str(self.shop.services_folder), "PYTHONPATH": str(ROOT / "plugins")}
        command = [
            sys.executable,
            "-c",
            "import sys; from bluegreen.cli.main import main; sys.exit(main())",
            *arguments,
        ]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE_S, check=False)

    def said(self, *arguments: str) -> tuple[int, str, str]:
        """Run the command in this process, which is a second faster: exit code, output, errors."""
        out, err, words = io.StringIO(), io.StringIO(), ["--services", str(self.shop.services_folder), *arguments]
        # In a thread: a browser's driver keeps a running loop in this one.
        with redirect_stdout(out), redirect_stderr(err), ThreadPoolExecutor(1) as thread:
            code = thread.submit(main, words).result()
        return code, out.getvalue(), err.getvalue()

    def status(self) -> dict[str, Any]:
        return json.loads(self.said("status", self.shop.name, "--json")[1])[0]

    def phase(self) -> str:
        return self.status()["stamp"]["phase"]

    def failed(self) -> int:
        """Failed requests that no bad version answered."""
        seen = self.load.wait_for_next()
        return seen.failed - sum(s.failures.get("status_5xx", 0) for s in seen.series if s.version == BAD)

    def kill_airflow(self) -> None:
        for component in COMPONENTS:
            self.airflow.kill(component)

    def start_airflow(self) -> None:
        """Start what does not run, and wait until all are healthy together."""
        for component in COMPONENTS:
            if not self.airflow.pids(component):
                self.airflow.start_component(component, wait=False)
        self.airflow.wait_healthy()

    def rest(self) -> None:
        """Bring everything back to rest, whatever the last test left."""
        self.start_airflow()
        for node in self.shop.nodes:
            if not node.running:
                node.start()
        for dag in (self.dag, "guardian", f"rollback__{self.shop.name}", f"retire__{self.shop.name}"):
            self.api.pause(dag, paused=False)
        for dag in (self.dag, f"rollback__{self.shop.name}", "sleepers"):
            for run in self.api.runs(dag, limit=20):
                if run["state"] in ("running", "queued"):
                    self.api.mark_run(dag, run["dag_run_id"], "failed")
        eventually(lambda: not self._running(), "all runs to end")
        self.said("restore", self.shop.name, "--reason", "a test begins")
        self.write()
        status = self.status()
        live = status["live"]
        assert live, status
        runs = status["deployed"][live]
        version = runs["version"]
        if not runs["ready"] == runs["total"] > 0:
            version = self.version()
            self.shop.deploy(live, version)
        code, _, err = self.said("adopt", self.shop.name, "--version", version, "--reason", "a test begins")
        assert code == 0, err

    def write(self, **changes: Any) -> None:
        """Write the service file as every test begins with it; ``changes`` replace whole sections."""
        self.shop.write_service_file(**{"notify": {"webhook": "shop_hook"}} | changes)

    def _running(self) -> list[str]:
        dags = (self.dag, f"rollback__{self.shop.name}", "sleepers")
        return [
            r["dag_run_id"] for dag in dags for r in self.api.runs(dag, limit=20) if r["state"] in ("running", "queued")
        ]


@dataclass
class Run:
    """One release."""

    stack: Stack
    version: str
    run_id: str

    def tasks(self) -> dict[str, str | None]:
        return self.stack.api.tasks(self.stack.dag, self.run_id)

    def reaches(self, task: str, *states: str) -> None:
        """Wait for a task's state; a run that ends without it is told at once, with its note."""

        def reached() -> bool:
            state = self.stack.api.run(self.stack.dag, self.run_id)["state"]
            tasks = self.tasks()
            if tasks.get(task) in states:
                return True
            assert state in ("queued", "running"), f"{task} never was {states}: {self.note()}, {tasks}"
            return False

        eventually(reached, f"{task} to be {states} in {self.run_id}")

    def ended(self) -> str:
        return self.stack.end_of(self.stack.dag, self.run_id)["state"]

    def note(self) -> str:
        return self.stack.api.note(self.stack.dag, self.run_id)

    def mark(self, task: str, state: str) -> None:
        self.stack.api.mark_task(self.stack.dag, self.run_id, task, state)

    def log(self, task: str) -> str:
        return self.stack.api.task_log(self.stack.dag, self.run_id, task)


@pytest.fixture(scope="session")
def whole_stack():
    work = Path(tempfile.mkdtemp(prefix="bluegreen-system-"))
    dags = work / "dags"
    shutil.copytree(ROOT / "dags", dags)
    (dags / "sleepers.py").write_text(SLEEPERS)
    shop = Shop(work / "shop", canary=WATCH_S, watch=WATCH_S, more={"lease": LEASE, "rules": RULES})
    hook = Webhook()
    environment = {"BLUEGREEN_SERVICES": str(shop.services_folder), "PYTHONPATH": f"{ROOT / 'plugins'}:{ROOT}"}
    environment["AIRFLOW_CONN_SHOP_HOOK"] = json.dumps({"conn_type": "generic", "password": hook.url})
    airflow = AirflowStack(work / "airflow", dags, ROOT / "plugins", env=environment)
    targets = [(LOOPBACK, node.entry_port) for node in shop.nodes]
    load = LoadProcess(Load(targets, host_header="shop.test", connections=10, rate=RATE, paths=LOAD_PATHS), work)
    try:
        hook.__enter__()
        shop.start()
        airflow.start()
        stack = Stack(shop, airflow, load, hook)
        assert stack.bluegreen("adopt", "shop", "--version", "1.4.0", "--reason", "begin").returncode == 0
        stack.api.wait_dags({stack.dag, "rollback__shop", "retire__shop", "guardian", "sleepers"}, PATIENCE_S)
        load.start()
        yield stack
    finally:
        load.kill()
        airflow.stop()
        shop.stop()
        hook.__exit__(None, None, None)
        keep = os.environ.get("BLUEGREEN_KEEP_LOGS")
        if not keep:
            shutil.rmtree(work, ignore_errors=True)


@pytest.fixture
def stack(whole_stack):
    """The stack at rest; afterwards no request may have failed, unless the test says that some must."""
    whole_stack.rest()
    before = whole_stack.failed()
    whole_stack.may_fail = False
    yield whole_stack
    time.sleep(0.5)
    if not whole_stack.may_fail:
        assert whole_stack.failed() == before, whole_stack.load.snapshot().series
