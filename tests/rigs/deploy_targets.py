"""
Targets to deploy to, ask, test and prove by: real HTTP servers on loopback, and one rig per kind of deployer.

A rig is a context manager that gives a ``DeployRig``; ``deploy_rigs`` has one for every type in the registry.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Protocol, Self

from bluegreen.catalog.models import Service
from bluegreen.core.colors import Color
from bluegreen.core.errors import SecretMissing
from bluegreen.core.ports import Credentials, Deployer
from bluegreen.deployers.registry import make_deployer

LOOPBACK = "127.0.0.1"
NOT_LISTENING = "worker does not listen"
"""What ``role.sh`` says of a process that does not end."""
ROLE = str(Path(__file__).with_name("role.sh"))


@dataclass(frozen=True)
class Asked:
    """One request as a site got it."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes = b""


@dataclass(frozen=True)
class Reply:
    """
    What a site answers.

    :param hang: seconds before it answers
    :param cut: the connection ends without an answer, or, with a body, in its middle
    """

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: str = ""
    hang: float = 0
    cut: bool = False


class Site:
    """
    An HTTP server in threads of its own.

    :param reply: makes each answer; may be replaced at any time
    """

    def __init__(self, reply: Callable[[Asked], Reply]) -> None:
        self.reply = reply
        self.asked: list[Asked] = []
        self.connections = 0
        self._closing = threading.Event()
        self._server = _server(self)
        self.address = f"{LOOPBACK}:{self._server.server_port}"
        self.url = f"http://{self.address}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()

    def pause(self, seconds: float) -> None:
        """Wait, but not beyond the site's own end."""
        self._closing.wait(seconds)


class _Server(ThreadingHTTPServer):
    request_queue_size = 128
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request, client_address) -> None:
        """A client that gives up is what several tests are about."""


def _server(site: Site) -> _Server:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1

        def setup(self) -> None:
            super().setup()
            self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            site.connections += 1

        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            asked = Asked(self.command, self.path, self.headers, body)
            site.asked.append(asked)
            self._send(site.reply(asked))

        do_GET = do_HEAD = do_POST = do_PUT = handle_any  # noqa: N815

        def _send(self, reply: Reply) -> None:
            site.pause(reply.hang)
            body = reply.body.encode()
            if not reply.cut or body:
                self.send_response(reply.status)
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body) * (2 if reply.cut else 1)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)
            self.close_connection = self.close_connection or reply.cut

        def log_message(self, *_: object) -> None:
            """Nothing: the test asks ``site.asked``."""

    return _Server((LOOPBACK, 0), Handler)


def colored(color: str, **more: str) -> Reply:
    """An answer that says which color served."""
    return Reply(headers={"X-Release-Color": color, **more}, body="ok")


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server((LOOPBACK, 0)) as server:
        return server.getsockname()[1]


def make_service(targets: Mapping[Color, list[str]], deploy: Mapping[str, object] | None = None, **more) -> Service:
    """A service whose targets and deploy section are given; its router is never asked."""
    return Service.model_validate(
        {
            "service": "shop",
            "entry": {"url": "http://shop.example"},
            "router": {
                "type": "haproxy",
                "nodes": [{"name": "lb1", "socket": "/none", "map": "/none", "entry": f"{LOOPBACK}:1"}],
                "backends": {"blue": "shop-blue", "green": "shop-green"},
            },
            "colors": {color: {"targets": urls} for color, urls in targets.items()},
            "health": {"timeout": "1s"},
            "deploy": deploy
            if deploy and "type" in deploy
            else {"type": "command", "command": ["true"], **(deploy or {})},
        }
        | more
    )


def keys(**connections: str) -> Callable[[str], Credentials]:
    """Secrets by connection id."""

    def secrets(connection_id: str) -> Credentials:
        if connection_id not in connections:
            raise SecretMissing(f"no connection {connection_id}")
        return Credentials("deployer", connections[connection_id])

    return secrets


class DeployRig(Protocol):
    """
    What the contract suite needs of a kind of deployer.

    :param can: ``roles``: it runs the role ``worker`` and ``cron``, and the rig has the three methods about them
    :param bad: a version that never becomes healthy
    :param stuck: what is said of a worker that does not stop
    """

    can: frozenset[str]
    service: Service
    bad: str
    stuck: str

    def deployer(self) -> Deployer:
        """Make a deployer as another worker would."""
        ...

    def deploys(self) -> int:
        """Tell how many times the target was really changed."""
        ...

    def runs(self, role: str) -> set[Color]:
        """Tell on which colors a role really runs."""
        ...

    def moves(self) -> list[str]:
        """Return what was really done with roles, ``stop worker on blue 1.0``, in its order."""
        ...

    def stick(self, role: str, color: Color, *, sticks: bool = True) -> None:
        """Let a role not stop on a color any more."""
        ...


@dataclass
class Processes:
    """Real processes that ``role.sh`` begins and ends in a folder."""

    folder: Path

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for file in self.folder.glob("*.pid"):
            with suppress(ProcessLookupError):
                os.kill(int(file.read_text()), signal.SIGKILL)

    def section(self, timeout: str) -> dict[str, object]:
        """Return ``deploy.roles`` of a service file."""
        commands = {verb: [ROLE, verb, str(self.folder)] for verb in ("start", "stop")}
        return {role: commands | {"timeout": timeout} for role in ("worker", "cron")}

    def start(self, role: str, color: Color, version: str) -> None:
        """Start a role by hand, as somebody did before there was a release."""
        told = {"ROLE": role, "COLOR": color, "VERSION": version, "RELEASE": "nobody", "EPOCH": ""}
        subprocess.run([ROLE, "start", self.folder], env=os.environ | told, check=True, stdout=subprocess.DEVNULL)

    def runs(self, role: str) -> set[Color]:
        """Tell on which colors a role really runs."""
        return {color for color in Color if self._alive(self.folder / f"{role}-{color}.pid")}

    def moves(self) -> list[str]:
        """Return what was really done with roles, in its order."""
        log = self.folder / "roles.log"
        return [line.partition(" for ")[0] for line in log.read_text().splitlines()] if log.exists() else []

    def stick(self, role: str, color: Color, *, sticks: bool = True) -> None:
        """Let a role not stop on a color any more."""
        file = self.folder / f"{role}-{color}.stuck"
        file.touch() if sticks else file.unlink()

    @staticmethod
    def _alive(file: Path) -> bool:
        with suppress(FileNotFoundError, ProcessLookupError):
            os.kill(int(file.read_text()), 0)
            return True
        return False


@dataclass
class CommandRig:
    """Sites that report what a shell script wrote into a file, and roles that are processes."""

    service: Service
    folder: Path
    processes: Processes
    can: frozenset[str] = frozenset({"roles"})
    bad: str = "bad"
    stuck: str = NOT_LISTENING

    def __post_init__(self) -> None:
        self.runs, self.moves, self.stick = self.processes.runs, self.processes.moves, self.processes.stick

    def deployer(self) -> Deployer:
        """Make a deployer as another worker would."""
        return make_deployer(self.service, keys())

    def deploys(self) -> int:
        """Tell how many times the command ran."""
        return len((self.folder / "ran").read_text().splitlines()) if (self.folder / "ran").exists() else 0


def reports(file: Path) -> Callable[[Asked], Reply]:
    """Return what a target answers whose version stands in a file; versions that begin with ``bad`` are not healthy."""

    def reply(_: Asked) -> Reply:
        version = ""
        with suppress(FileNotFoundError):
            version = file.read_text()
        if not version or version.startswith("bad"):
            return Reply(503, body=f"no good: {version or 'nothing deployed'}")
        return Reply(body=f'{{"version": "{version}"}}')

    return reply


@contextmanager
def command_rig(folder: Path) -> Iterator[CommandRig]:
    """Two targets a color, and a script that deploys to them."""
    with ExitStack() as stack:
        processes = stack.enter_context(Processes(folder))
        sites = {c: [stack.enter_context(Site(reports(folder / f"{c}.version"))) for _ in range(2)] for c in Color}
        script = 'echo "deploying $VERSION to $TARGETS"; echo x >> ran; printf %s "$VERSION" > "$COLOR.version"'
        deploy = {
            "command": ["sh", "-c", script],
            "retire": ["sh", "-c", 'rm -f "$COLOR.version"'],
            "diagnose": ["sh", "-c", 'echo "log of $COLOR"'],
            "cwd": str(folder),
            "ready_within": "300ms",
            "fence": str(folder / "fences"),
            "roles": processes.section("400ms"),
        }
        yield CommandRig(make_service({c: [s.url for s in sites[c]] for c in Color}, deploy), folder, processes)
