from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from bluegreen.catalog import models
from bluegreen.hosts import bundle, host_files
from bluegreen.routers import haproxy_host
from bluegreen.routers.haproxy import HAProxyRouter
from demo.haproxy import HAProxyNode
from demo.processes import free_ports
from tests.rigs.haproxy import SERVICE, HAProxyRig


@pytest.fixture(scope="session")
def _rig() -> Iterator[HAProxyRig]:
    with HAProxyRig("haproxy-wheel-unix") as rig:
        rig.workdir.chmod(0o755)  # other users may look, as in /etc/haproxy
        yield rig


@pytest.fixture
def rig(_rig: HAProxyRig) -> HAProxyRig:
    """Two good nodes, set right before each test."""
    _rig.reset()
    return _rig


@pytest.fixture
def a_node(rig: HAProxyRig) -> Iterator[Callable[..., HAProxyNode]]:
    """A node of its own, made as the test says."""
    with ExitStack() as stack:

        def make(**fields: Any) -> HAProxyNode:
            entry, admin = free_ports(2)
            node = HAProxyNode("odd", rig.workdir, SERVICE, entry, rig.backends.addresses, admin_port=admin, **fields)
            shutil.rmtree(node.map_path.parent, ignore_errors=True)
            node.map_path.parent.mkdir()
            node.map_path.write_text("green 0\n")
            stack.callback(node.stop)
            return node

        yield make


def router_of(node: HAProxyNode, *, backends: Any = None, probing: bool = True, **fields: Any) -> HAProxyRouter:
    """Router over one node, with the service file's fields changed as the test says."""
    found = {"name": node.name, "socket": str(node.socket), "map": str(node.map_path), "entry": node.entry} | fields
    names = backends or {"blue": f"{SERVICE}-blue", "green": f"{SERVICE}-green"}
    model = models.HAProxyRouter.model_validate({"type": "haproxy", "nodes": [found], "backends": names})
    return HAProxyRouter(SERVICE, model, models.Entry(url="http://shop.test") if probing else None)


def far(call: dict[str, Any], *before: str) -> Any:
    """Run the host program as a far host does, with nothing of ours on the path; ``before`` stands before Python."""
    command = [*before, sys.executable, "-I", "-c", bundle.BOOT]
    lines = f"{json.dumps(bundle.text(haproxy_host))}\n{json.dumps(call)}\n"
    done = subprocess.run(command, input=lines, capture_output=True, check=False, text=True, timeout=20)
    assert done.stdout, done.stderr
    ready, answer = done.stdout.splitlines()
    assert ready.startswith(bundle.READY)
    return json.loads(answer)


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Callable[[], Any]], None]:
    """Let something happen once, at a checkpoint of the next write."""

    def arrange(place: str, happen: Callable[[], Any]) -> None:
        todo = [happen]

        def checkpoint(name: str) -> None:
            if name == place and todo:
                todo.pop()()

        monkeypatch.setattr(host_files, "checkpoint", checkpoint)

    return arrange
