"""Real servers of sources that count: InfluxDB and Graphite of Debian, PostgreSQL; each in a folder of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import requests

from demo.processes import LOOPBACK, Process, free_port, wait_until

PASSWORD = "planted-real-7f3a91"  # noqa: S105 - what must be in no error
SYSTEM_PYTHON = "/usr/bin/python3"
POSTGRES = sorted(Path("/usr/lib/postgresql").glob("*/bin"))[-1:]

_session = requests.Session()
_session.trust_env = False  # no proxy of the caller leads to this machine's loopback

_INFLUX = """\
reporting-disabled = true
bind-address = "{lo}:{rpc}"
[meta]
  dir = "{folder}/meta"
[data]
  dir = "{folder}/data"
  wal-dir = "{folder}/wal"
[http]
  bind-address = "{lo}:{port}"
  auth-enabled = true
[subscriber]
  enabled = false
[monitor]
  store-enabled = false
"""

_GRAPHITE = """\
import sys
from wsgiref.simple_server import make_server
import graphite.settings as shipped
from django.conf import settings
folder, port = sys.argv[1], int(sys.argv[2])
mine = {name: getattr(shipped, name) for name in dir(shipped) if name.isupper()}
mine |= dict(SECRET_KEY="x" * 40, STORAGE_DIR=folder, WHISPER_DIR=folder, STANDARD_DIRS=[folder], LOG_DIR=folder)
mine |= dict(INDEX_FILE=folder + "/index", CARBONLINK_HOSTS=[], CLUSTER_SERVERS=[], ALLOWED_HOSTS=["*"], TIME_ZONE="UTC")
mine |= dict(DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": folder + "/db"}})
settings.configure(**mine)
from django.core.wsgi import get_wsgi_application
make_server("127.0.0.1", port, get_wsgi_application()).serve_forever()
"""

_WHISPER = """\
import os, sys, whisper
file, *points = sys.argv[1:]
os.makedirs(os.path.dirname(file), exist_ok=True)
if not os.path.exists(file):
    whisper.create(file, [(10, 360)], 0, "sum")
whisper.update_many(file, [tuple(map(float, point.split("="))) for point in points])
"""


@contextmanager
def _folder(name: str) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix=f"bg-{name}-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class Influx:
    """InfluxDB 1.6 that asks for a login."""

    def __init__(self, url: str) -> None:
        self.url = url

    def query(self, text: str, **more: str) -> requests.Response:
        """Run a statement as the admin."""
        return _session.post(f"{self.url}/query", params={"q": text, **more}, auth=("admin", PASSWORD), timeout=5)

    def write(self, lines: str) -> None:
        """Write points in the line protocol, times in milliseconds."""
        answer = _session.post(
            f"{self.url}/write",
            params={"db": "shop", "precision": "ms"},
            data=lines,
            auth=("admin", PASSWORD),
            timeout=5,
        )
        assert answer.status_code == 204, answer.text


@contextmanager
def influx() -> Iterator[Influx]:
    """Start InfluxDB with an empty database ``shop``."""
    with _folder("influx") as folder:
        port = free_port()
        (folder / "conf").write_text(_INFLUX.format(lo=LOOPBACK, folder=folder, port=port, rpc=free_port()))
        process = Process(["influxd", "-config", folder / "conf"], folder / "log").start()
        server = Influx(f"http://{LOOPBACK}:{port}")
        try:
            wait_until(lambda: _answers(f"{server.url}/ping"), 30, f"influxd; its log ends with {process.tail(3)}")
            server.query(f"CREATE USER admin WITH PASSWORD '{PASSWORD}' WITH ALL PRIVILEGES")
            server.query("CREATE DATABASE shop")
            yield server
        finally:
            process.stop()


class Graphite:
    """Graphite's web application over whisper files."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url, self._folder = url, folder

    def write(self, name: str, points: dict[int, float]) -> None:
        """Write points of a series, by seconds since 1970."""
        file = self._folder / f"{name.replace('.', '/')}.wsp"
        words = [f"{at}={value}" for at, value in points.items()]
        subprocess.run([SYSTEM_PYTHON, "-c", _WHISPER, file, *words], check=True, timeout=20, env=_bare())


@contextmanager
def graphite() -> Iterator[Graphite]:
    """Start Graphite without any series."""
    with _folder("graphite") as folder:
        port = free_port()
        process = Process(
            [SYSTEM_PYTHON, "-c", _GRAPHITE, folder, port], folder / "log", env={"PYTHONPATH": ""}
        ).start()
        try:
            url = f"http://{LOOPBACK}:{port}"
            wait_until(lambda: _answers(f"{url}/render?format=json"), 30, f"graphite; it says {process.tail(3)}")
            yield Graphite(url, folder)
        finally:
            process.stop()


@contextmanager
def postgres() -> Iterator[str]:
    """Start PostgreSQL that asks for a password; gives an SQLAlchemy URL whose user is ``watcher``."""
    with _folder("postgres") as folder:
        port, data = free_port(), folder / "data"
        (folder / "word").write_text(PASSWORD)
        for path in (folder, folder / "word"):
            shutil.chown(path, "postgres") if os.getuid() == 0 else None
        as_them = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if os.getuid() == 0 else []
        make = [*as_them, POSTGRES[0] / "initdb", "-D", data, "-U", "watcher", "-A", "scram-sha-256"]
        subprocess.run([*make, f"--pwfile={folder}/word", "-N"], check=True, capture_output=True, timeout=60, cwd="/")
        command = [*as_them, POSTGRES[0] / "postgres", "-D", data, "-p", port, "-k", folder, "-h", LOOPBACK]
        process = Process([*command, "-F"], folder / "log").start()
        try:
            ready = [POSTGRES[0] / "pg_isready", "-h", LOOPBACK, "-p", str(port)]
            wait_until(lambda: subprocess.run(ready, capture_output=True, check=False).returncode == 0, 30, "postgres")
            yield f"postgresql+psycopg://watcher:{PASSWORD}@{LOOPBACK}:{port}/postgres"
        finally:
            process.stop()


def _answers(url: str) -> bool:
    try:
        return _session.get(url, timeout=2).ok
    except requests.ConnectionError:
        return False


def _bare() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


def missing(kind: str) -> str:
    """Say why a server cannot run on this machine; empty when it can."""
    if kind == "influxdb":
        return "" if shutil.which("influxd") else "there is no influxd: apt-get install influxdb"
    if kind == "graphite":
        asked = [SYSTEM_PYTHON, "-c", "import graphite, whisper, django"]
        done = subprocess.run(asked, capture_output=True, check=False, env=_bare())
        return "" if done.returncode == 0 else "there is no Graphite: apt-get install graphite-web"
    if kind == "postgresql":
        if not POSTGRES:
            return "there is no PostgreSQL: apt-get install postgresql"
        return "" if _has("psycopg") else "psycopg is not installed: make install"
    return ""


def _has(module: str) -> bool:
    return subprocess.run([sys.executable, "-c", f"import {module}"], capture_output=True, check=False).returncode == 0
