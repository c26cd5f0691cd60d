"""The control plane of this process, a namespace for each test."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pytest

from bluegreen.hosts import host_files
from demo.kubernetes.plane import missing
from tests.rigs.kube_shared import shared
from tests.rigs.registry import RIGS
from tests.rigs.registry import missing as missing_rig


@pytest.fixture(autouse=True, scope="session")
def built():
    if reason := missing():
        pytest.skip(reason)


@pytest.fixture(scope="session")
def plane():
    return shared()


@pytest.fixture
def shop(plane):
    with plane.namespace() as made:
        yield made


@pytest.fixture(scope="session")
def router_rigs():
    """One rig a kind for the whole session, started when it is first wanted."""
    with ExitStack() as stack:
        started = {}

        def start(kind):
            if kind not in started:
                started[kind] = stack.enter_context(RIGS[kind][kind]())
            return started[kind]

        yield start


@pytest.fixture(params=["kube_service", "istio", "gateway_api"])
def rig(request, router_rigs):
    """A router over two namespaces, put right."""
    if reason := missing_rig(request.param):
        pytest.skip(reason)
    rig = router_rigs(request.param)
    rig.reset()
    return rig


@pytest.fixture
def service_rig(router_rigs):
    """The plain Service's."""
    if reason := missing_rig("kube_service"):
        pytest.skip(reason)
    rig = router_rigs("kube_service")
    rig.reset()
    return rig


@pytest.fixture
def at_step(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, Callable[[], Any]], list[str]]:
    """Let something happen at the n-th border of the API writes of this process; return what was passed."""

    def put(number: int, happen: Callable[[], Any]) -> list[str]:
        passed: list[str] = []

        def checkpoint(name: str) -> None:
            passed.append(name)
            if len(passed) == number:
                happen()

        monkeypatch.setattr(host_files, "checkpoint", checkpoint)
        return passed

    return put
