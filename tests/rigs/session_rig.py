"""A shop with sessions behind one real proxy node: two processes of ``session_app``, one a color, and real stores."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bluegreen.catalog.models import Service
from bluegreen.core.ports import Credentials
from bluegreen.release.adopt import adopt
from bluegreen.release.plan import Plan, Request, plan
from bluegreen.release.ports import Ports
from bluegreen.release.wiring import ports_for
from demo.haproxy import HAProxyNode
from demo.nginx import NginxNode
from demo.processes import LOOPBACK, Process, free_port, free_ports, port_taken_by, wait_until
from tests.rigs.session_app import PASSWORD, USER

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = {"redis": "/usr/bin/redis-server", "memcached": "/usr/bin/memcached"}
SESSIONS = {
    "create": {
        "path": "/login",
        "headers": {"Content-Type": "application/json"},
        "body": '{"user": "$login", "password": "$password"}',
        "connection": "tester",
    },
    "use": {"path": "/me", "json": {"user": USER}},
}


def login(_: str) -> Credentials:
    """The only connection."""
    return Credentials(USER, PASSWORD)


def missing(kind: str) -> str:
    """Say why a store cannot run on this machine; empty when it can."""
    program = PROGRAMS.get(kind, "")
    return (
        f"there is no {program}: apt-get install {Path(program).name}" if program and not Path(program).exists() else ""
    )


@dataclass
class SessionShop:
    """
    A release that is planned, with version 1 on blue and 2 on green.

    :param ports: of the service over the real proxy
    :param node: that proxy
    :param said: what was logged
    """

    ports: Ports
    plan: Plan
    node: Any
    said: list[str] = field(default_factory=list)


@contextmanager
def stores(*words: str) -> Iterator[list[str]]:
    """Start a real server for each ``redis`` and ``memcached``; what else is named is passed on."""
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="bg-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        yield [word if ":" in word else stack.enter_context(_server(word, folder)) for word in words]


@contextmanager
def _server(kind: str, folder: Path) -> Iterator[str]:
    port = free_port()
    own = {
        "redis": ["--port", str(port), "--bind", LOOPBACK, "--save", "", "--dir", str(folder)],
        "memcached": ["-p", str(port), "-l", LOOPBACK, "-U", "0", "-u", "nobody"],
    }[kind]
    with _running([PROGRAMS[kind], *own], folder / f"{kind}-{port}.log", port):
        yield f"{kind}:{port}"


@contextmanager
def _running(command: list[str], log: Path, port: int) -> Iterator[None]:
    process = Process(command, log, env={"PYTHONPATH": f"{ROOT / 'plugins'}:{ROOT}"}).start()
    try:
        wait_until(lambda: port_taken_by(port), 10, f"{command[0]} listens")
        yield
    finally:
        process.stop()


@contextmanager
def session_shop(kind: str, words: Mapping[str, str], **more: Any) -> Iterator[SessionShop]:
    """
    Start apps and proxy.

    :param kind: ``haproxy`` or ``nginx`` of the wheels; ``haproxy-debian``, ``nginx-debian``
    :param words: color -> where its sessions are, see ``session_app``
    :param more: sections of the service file; of ``router`` what is to be added
    """
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="bg-"))
        folder.chmod(0o755)
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        apps = dict(zip(words, free_ports(2), strict=True))
        for color, version in (("blue", "1"), ("green", "2")):
            port = apps[color]
            argv = [sys.executable, "-m", "tests.rigs.session_app", str(port), version, words[color]]
            stack.enter_context(_running(argv, folder / f"{color}.log", port))
        servers = {color: [f"{LOOPBACK}:{port}"] for color, port in apps.items()}
        entry, own = free_ports(2)
        kind, _, build = kind.partition("-")
        node = _node(kind, f"/usr/sbin/{kind}" if build else None, folder, entry, servers, own)
        stack.callback(node.stop)
        node.start()
        said: list[str] = []
        ports = ports_for(_service(kind, node, servers, more), login, said.append)
        adopt(ports, "tests", "begin", "1")
        wait_until(
            lambda: all(node.health[c].serves for node in ports.router.read().nodes for c in node.health), 10, "up"
        )
        yield SessionShop(ports, plan(ports, Request(run="run-1", version="2", by="tests")), node, said)


def _node(kind: str, binary: str | None, folder: Path, entry: int, servers: Mapping[str, list[str]], own: int) -> Any:
    if kind == "haproxy":
        return HAProxyNode("lb1", folder, "shop", entry, servers, binary=binary)
    upgrade = ["map $http_upgrade $shop_upgrade { default upgrade; '' ''; }"]
    location = [f"proxy_set_header {name};" for name in ("Upgrade $http_upgrade", "Connection $shop_upgrade")]
    location += ["proxy_buffering off;"]
    return NginxNode(
        "lb1", folder, "shop", entry, servers, own, binary=binary, extra_http=upgrade, extra_location=location
    )


def _service(kind: str, node: Any, servers: Mapping[str, list[str]], more: dict[str, Any]) -> Service:
    backends = {color: f"shop-{color}" for color in servers}
    router = {"type": kind, "nodes": [node.catalog()], "backends": backends} | more.pop("router", {})
    return Service.model_validate(
        {
            "service": "shop",
            "entry": {"url": "http://shop.test", "path": "/health"},
            "router": router,
            "colors": {color: {"targets": [f"http://{a}" for a in addresses]} for color, addresses in servers.items()},
            "deploy": {"type": "command", "command": ["true"]},
            "sessions": SESSIONS,
        }
        | more
    )
