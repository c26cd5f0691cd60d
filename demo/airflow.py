"""
Airflow on one machine: scheduler, dag-processor, triggerer and api-server on SQLite, started and ended as one.

Not `airflow standalone`: ending that leaves its four components behind. Here every process, however deep and however
orphaned, is known by what it inherited: the home in its environment, and the session its component leads.

One interpreter imports Airflow, prepares the database and forks the components. Four interpreters take twice as long
until all are healthy, and a quarter more memory.
"""

import gc
import importlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from base64 import urlsafe_b64encode
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, Self

import psutil
import requests

__all__ = ["COMPONENTS", "AirflowStack", "AirflowStackError", "Login", "TaskProcesses"]

# All logs are files of this machine: the log servers are not needed, and they would listen on every address.
COMPONENTS = {
    "scheduler": ("scheduler", "--skip-serve-logs"),
    "dag-processor": ("dag-processor",),
    "triggerer": ("triggerer", "--skip-serve-logs"),
    "api-server": ("api-server",),
}
HOST = "127.0.0.1"
USERS = {"admin": "admin", "release": "user", "viewer": "viewer"}  # name -> role
WAY_BACK_POOL = "bluegreen_way_back"
WAY_BACK_SLOTS = 4
HEALTHY_WITHIN_S = 300.0
KILLED_WITHIN_S = 10.0
PIDS = "pids.json"
ROOT = Path(__file__).resolve().parents[1]
FORK_IS_SAFE = sys.platform != "darwin"

# What the components share; imported before they part.
SHARED = (
    "airflow.__main__",
    "airflow.cli.commands.api_server_command",
    "airflow.cli.commands.dag_processor_command",
    "airflow.cli.commands.scheduler_command",
    "airflow.cli.commands.triggerer_command",
    "airflow.dag_processing.manager",
    "airflow.executors.local_executor",
    "airflow.jobs.scheduler_job_runner",
    "airflow.jobs.triggerer_job_runner",
    "airflow.sdk.execution_time.supervisor",
    "airflow.sdk.execution_time.task_runner",
    "airflow.utils.db",
)
# The API server needs as long for these as the database needs to be prepared.
ONLY_API_SERVER = ("airflow.api_fastapi.core_api.app", "airflow.api_fastapi.execution_api.app")


class AirflowStackError(Exception):
    """Airflow cannot be started here, or did not come up."""


class Login(NamedTuple):
    """Who asks Airflow's REST API."""

    user: str
    password: str


class TaskProcesses(NamedTuple):
    """A running task: the process Airflow reports as its `pid`, and the worker above it (None: that one is gone)."""

    supervisor: int | None
    task: int


class AirflowStack:
    """
    Four Airflow components over one home directory.

    :param home: what Airflow writes: database, logs, secrets. It is kept, and a later start goes on with it
    :param dags_folder: the DAG files
    :param plugins_folder: the plugins
    :param port: of the API server; a free one if not given
    :param env: goes on top of the components' environment: {"AIRFLOW__CORE__PARALLELISM": "2"}
    :param parallelism: tasks that run at once; each costs an idle worker process
    :param default_pool_slots: slots of `default_pool`, in which deferred tasks count too
    :param parse_every_s: how soon a new or changed DAG file is seen
    :param imports: modules that tasks need and that take long; imported once, before the components part
    """

    def __init__(
        self,
        home: Path,
        dags_folder: Path,
        plugins_folder: Path,
        *,
        port: int | None = None,
        env: dict[str, str] | None = None,
        parallelism: int = 8,
        default_pool_slots: int = 4,
        parse_every_s: int = 3,
        imports: Sequence[str] = (),
    ) -> None:
        self.home = home.resolve()
        self.dags_folder = dags_folder.resolve()
        self.plugins_folder = plugins_folder.resolve()
        self.port = port or _free_port()
        self.url = f"http://{HOST}:{self.port}"
        self.logs = self.home / "components"
        self.parallelism = parallelism
        self.default_pool_slots = default_pool_slots
        self.parse_every_s = parse_every_s
        self.imports = imports
        self._env = env or {}
        self._launched: dict[str, _Launched] = {}
        self._sessions: dict[int, str] = {}  # session -> component, of every start: orphans stay in theirs

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    # Start and end

    def start(self) -> None:
        """Prepare the database, start the four components, and return when Airflow itself calls all of them healthy."""
        self._refuse_what_is_taken()
        try:
            self._prepare_home()
            self._launch_all()
            self.wait_healthy()
        except BaseException:
            self.stop(grace_s=0)
            raise

    def stop(self, grace_s: float = 15.0) -> None:
        """End every process of this home, whatever a task started too: asked first, killed when the grace is over."""
        leaders = [launched.process for launched in self._launched.values() if _is_alive(launched.process)]
        for leader in leaders:
            with suppress(ProcessLookupError):
                os.killpg(leader.pid, signal.SIGTERM)
        _wait_ended(leaders, grace_s)
        _kill(self.processes())
        self._launched.clear()

    def start_component(self, component: str, *, wait: bool = True) -> None:
        """Start one component again after `kill`, by default until it is healthy."""
        if self._is_running(component):
            raise AirflowStackError(f"{component} is running; kill it first")
        started_at = datetime.now(UTC)
        process = self._spawn(component, ["-m", "airflow", *COMPONENTS[component]])
        self._register(component, process, started_at)
        if wait:
            self.wait_healthy()

    def kill(self, component: str, *, only_parent: bool = False) -> None:
        """`kill -9`: the component with its workers and tasks, or only the parent, as the kernel's OOM killer would."""
        parent = self._launched[component].process
        _kill([parent, *([] if only_parent else self.processes(component))])

    def restart(self, component: str) -> None:
        """Kill a component with all its processes, and start it again."""
        self.kill(component)
        self.start_component(component)

    def wait_healthy(self, timeout_s: float = HEALTHY_WITHIN_S) -> None:
        """Wait until every component has given a sign of life since it was started."""
        deadline = time.monotonic() + timeout_s
        while True:
            if dead := [component for component in self._launched if not self._is_running(component)]:
                raise AirflowStackError(f"{dead[0]} ended; its log:\n{self.tail(dead[0])}")
            if not (late := self._not_healthy()):
                return
            if time.monotonic() > deadline:
                raise AirflowStackError(
                    f"{late[0]} is not healthy after {timeout_s:g} s; its log:\n{self.tail(late[0])}"
                )
            time.sleep(0.2)

    # Who may log in

    @property
    def login(self) -> Login:
        """The administrator's login; the others are in `logins`."""
        return self.logins["admin"]

    @property
    def logins(self) -> dict[str, Login]:
        """User -> login: `admin`, `release` (role user: starts and marks runs) and `viewer`."""
        passwords = json.loads(self._passwords_file.read_text())
        return {user: Login(user, passwords[user]) for user in USERS}

    # Looking at it

    def health(self) -> dict[str, Any]:
        """Airflow's own answer; empty while the API server does not answer."""
        with suppress(requests.RequestException), requests.Session() as session:
            session.trust_env = False  # no proxy of the caller leads to this machine's loopback
            return session.get(f"{self.url}/api/v2/monitor/health", timeout=5).json()
        return {}

    def processes(self, component: str | None = None) -> list[psutil.Process]:
        """Every living process of this home, or of one component, orphans included."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error, OSError):
                mine = process.environ().get("AIRFLOW_HOME") == str(self.home) and _is_alive(process)
                if mine and component in (None, self._sessions.get(os.getsid(process.pid))):
                    found.append(process)
        return found

    def pids(self, component: str) -> list[int]:
        """The component's processes, its parent first."""
        parent = self._launched[component].process.pid
        return sorted((process.pid for process in self.processes(component)), key=lambda pid: (pid != parent, pid))

    def task_processes(self) -> list[TaskProcesses]:
        """The tasks running now: Airflow gives each a process group of its own, below its worker."""
        pids = set(self.pids("scheduler"))
        found = []
        for pid in pids:
            with suppress(psutil.Error, OSError):
                if os.getpgid(pid) == pid != os.getsid(pid):
                    above = psutil.Process(pid).ppid()
                    found.append(TaskProcesses(above if above in pids else None, pid))
        return found

    def memory_mib(self) -> dict[str, float]:
        """Component -> MiB it really costs: proportional set size, shared pages divided among their users."""
        return {component: sum(map(_mib, self.processes(component))) for component in COMPONENTS}

    def tail(self, component: str, lines: int = 25) -> str:
        """The last lines of a component's log."""
        file = self.logs / f"{component}.log"
        return "\n".join(file.read_text(errors="replace").splitlines()[-lines:]) if file.exists() else "(no log)"

    # Private

    def _refuse_what_is_taken(self) -> None:
        if living := self.processes():
            raise AirflowStackError(f"{self.home}: Airflow is running here already, as process {living[0].pid}")
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, self.port))
            except OSError as taken:
                raise AirflowStackError(f"port {self.port} of {HOST} is taken: {taken.strerror}") from taken

    def _prepare_home(self) -> None:
        self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.logs.mkdir(exist_ok=True)
        _write_once(self._passwords_file, {user: secrets.token_urlsafe(18) for user in USERS})
        _write_once(self._secrets_file, _new_secrets())

    def _launch_all(self) -> None:
        started_at = datetime.now(UTC)
        forked = list(COMPONENTS) if FORK_IS_SAFE else []
        code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from demo.airflow import prepare_and_fork as begin; "
        code += "del sys.path[0]; begin(*sys.argv[1:])"
        arguments = [str(self.logs), str(self.default_pool_slots), ",".join(self.imports), *forked]
        if self._spawn("prepare", ["-P", "-c", code, *arguments]).wait():
            raise AirflowStackError(f"the database could not be prepared:\n{self.tail('prepare')}")
        for component, pid in json.loads((self.logs / PIDS).read_text()).items():
            self._register(component, psutil.Process(pid), started_at)
        for component in COMPONENTS.keys() - set(forked):
            self.start_component(component, wait=False)

    def _register(self, component: str, process: psutil.Process, started_at: datetime) -> None:
        self._launched[component] = _Launched(process, started_at)
        self._sessions[process.pid] = component

    def _spawn(self, name: str, arguments: list[str]) -> psutil.Popen:
        with (self.logs / f"{name}.log").open("ab") as log:
            return psutil.Popen(
                [sys.executable, *arguments],
                cwd=self.home,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _is_running(self, component: str) -> bool:
        return component in self._launched and _is_alive(self._launched[component].process)

    def _not_healthy(self) -> list[str]:
        health = self.health()
        if not health:
            return ["api-server"]
        beating = self._launched.keys() - {"api-server"}  # that one's sign of life is the answer
        return [component for component in sorted(beating) if not self._launched[component].beats(component, health)]

    @property
    def _passwords_file(self) -> Path:
        return self.home / "passwords.json"

    @property
    def _secrets_file(self) -> Path:
        return self.home / "secrets.json"

    def _environment(self) -> dict[str, str]:
        """The caller's environment without the caller's Airflow."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "_AIRFLOW"))}
        no_proxy = ",".join(filter(None, [inherited.get("no_proxy") or inherited.get("NO_PROXY"), HOST]))
        ours = {
            "AIRFLOW_HOME": str(self.home),
            "NO_PROXY": no_proxy,
            "no_proxy": no_proxy,
            "SPT_NOENV": "1",  # a process title must not be written over the environment, where AIRFLOW_HOME is looked up
        }
        reports = {"BLUEGREEN_REPORTS": str(self.home / "reports")}
        return inherited | reports | self._settings() | json.loads(self._secrets_file.read_text()) | self._env | ours

    def _settings(self) -> dict[str, str]:
        options: dict[str, dict[str, Any]] = {
            "CORE": {
                "DAGS_FOLDER": self.dags_folder,
                "PLUGINS_FOLDER": self.plugins_folder,
                "EXECUTOR": "LocalExecutor",
                "PARALLELISM": self.parallelism,
                "LOAD_EXAMPLES": False,
                "MIN_SERIALIZED_DAG_UPDATE_INTERVAL": self.parse_every_s,
                "EXECUTION_API_SERVER_URL": f"{self.url}/execution/",
                "AUTH_MANAGER": "airflow.api_fastapi.auth.managers.simple.simple_auth_manager.SimpleAuthManager",
                "SIMPLE_AUTH_MANAGER_ALL_ADMINS": False,
                "SIMPLE_AUTH_MANAGER_USERS": ",".join(f"{user}:{role}" for user, role in USERS.items()),
                "SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": self._passwords_file,
            },
            "DATABASE": {
                "SQL_ALCHEMY_CONN": f"sqlite:///{self.home}/airflow.db",
                "CHECK_MIGRATIONS": False,  # `start` has just run them
            },
            "API": {"HOST": HOST, "PORT": self.port, "BASE_URL": self.url, "WORKERS": 1},
            "SCHEDULER": {
                "SCHEDULER_IDLE_SLEEP_TIME": 0.1,  # 1.1 -> 0.25 s a task
                "SCHEDULER_HEARTBEAT_SEC": 1,
                "JOB_HEARTBEAT_SEC": 2,
                "SCHEDULER_HEALTH_CHECK_THRESHOLD": 30,
                "ORPHANED_TASKS_CHECK_INTERVAL": 10,
                "TASK_INSTANCE_HEARTBEAT_TIMEOUT": 30,
                "TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": 2,
                "TRIGGER_TIMEOUT_CHECK_INTERVAL": 2,
            },
            "DAG_PROCESSOR": {
                "REFRESH_INTERVAL": self.parse_every_s,
                "BUNDLE_REFRESH_CHECK_INTERVAL": 1,
                "MIN_FILE_PROCESS_INTERVAL": self.parse_every_s,
                "PARSING_PROCESSES": 1,
            },
            "TRIGGERER": {"JOB_HEARTBEAT_SEC": 1, "TRIGGERER_HEALTH_CHECK_THRESHOLD": 15},
            "WORKERS": {"MIN_HEARTBEAT_INTERVAL": 1},
            "LOGGING": {"BASE_LOG_FOLDER": self.home / "logs", "COLORED_CONSOLE_LOG": False},
        }
        return {
            f"AIRFLOW__{section}__{option}": str(value)
            for section, values in options.items()
            for option, value in values.items()
        }


def prepare_and_fork(logs: str, default_pool_slots: str, imports: str, *components: str) -> None:
    """Run in an interpreter of its own: prepare the database and become the components, each in its own session."""
    for module in (*SHARED, *filter(None, imports.split(","))):
        importlib.import_module(module)
    prepared = os.pipe()
    pids = {name: _fork(name, Path(logs), prepared) for name in components if name == "api-server"}
    _prepare_database(int(default_pool_slots))
    os.write(prepared[1], b"1")
    gc.freeze()  # pages that the garbage collector does not touch stay shared
    pids |= {name: _fork(name, Path(logs)) for name in components if name != "api-server"}
    (Path(logs) / PIDS).write_text(json.dumps(pids))


def _prepare_database(default_pool_slots: int) -> None:
    """In a process of its own: a SQLite connection that crosses a fork loses what is written through it."""
    if child := os.fork():
        if os.waitpid(child, 0)[1]:
            sys.exit(1)
        return
    upgradedb = importlib.import_module("airflow.utils.db").upgradedb
    pool = importlib.import_module("airflow.models.pool").Pool
    upgradedb()
    pool.create_or_update_pool("default_pool", default_pool_slots, "Default pool", include_deferred=True)
    why = "What brings traffic back; it waits for nothing else"
    pool.create_or_update_pool(WAY_BACK_POOL, WAY_BACK_SLOTS, why, include_deferred=False)
    sys.exit()


def _fork(component: str, logs: Path, prepared: tuple[int, int] | None = None) -> int:
    """Become a component; with `prepared`, import what only the API server needs until the database is."""
    sys.stdout.flush()
    if pid := os.fork():
        return pid
    os.setsid()
    log = os.open(logs / f"{component}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    if prepared:
        os.close(prepared[1])
        for module in ONLY_API_SERVER:
            importlib.import_module(module)
        if not os.read(prepared[0], 1):
            sys.exit("the database could not be prepared")
    sys.argv = ["airflow", *COMPONENTS[component]]
    importlib.import_module("setproctitle").setproctitle(" ".join(sys.argv))
    sys.exit(importlib.import_module("airflow.__main__").main())


class _Launched(NamedTuple):
    process: psutil.Process
    at: datetime

    def beats(self, component: str, health: dict[str, Any]) -> bool:
        """Healthy by a heartbeat of this start: what was killed before leaves a fresh one behind."""
        key = component.replace("-", "_")
        beat = health[key].get(f"latest_{key}_heartbeat")
        return bool(beat) and health[key]["status"] == "healthy" and datetime.fromisoformat(beat) > self.at


def _is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _kill(processes: Iterable[psutil.Process]) -> None:
    victims = list(processes)
    for process in victims:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    _wait_ended(victims, KILLED_WITHIN_S)


def _wait_ended(processes: Iterable[psutil.Process], timeout_s: float) -> None:
    """Not psutil's wait: in a container without an init, an orphan stays a zombie for good."""
    deadline = time.monotonic() + timeout_s
    for process in processes:
        while _is_alive(process) and time.monotonic() < deadline:
            time.sleep(0.05)
        if isinstance(process, psutil.Popen):
            process.poll()  # takes a child of this process out of the table


def _mib(process: psutil.Process) -> float:
    with suppress(psutil.Error):
        memory = process.memory_full_info()
        return getattr(memory, "pss", memory.uss) / 2**20
    return 0.0


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return probe.getsockname()[1]


def _new_secrets() -> dict[str, str]:
    return {
        "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_urlsafe(64),
        "AIRFLOW__API__SECRET_KEY": secrets.token_urlsafe(64),
        "AIRFLOW__CORE__FERNET_KEY": urlsafe_b64encode(secrets.token_bytes(32)).decode(),
    }


def _write_once(file: Path, content: dict[str, str]) -> None:
    """Readable by its owner only, from its first byte on."""
    with suppress(FileExistsError):
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as stream:
            json.dump(content, stream)
