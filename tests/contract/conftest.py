"""One rig a variant for the whole session: starting real processes costs seconds, putting them right costs none."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.rigs.registry import RIGS, missing

VARIANTS = {variant: make for kinds in RIGS.values() for variant, make in kinds.items()}


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "needs(*powers): what a rig must be able to do; see tests/rigs/rig.py")


@pytest.fixture(scope="session")
def rigs() -> Iterator[Callable[[str], Any]]:
    with ExitStack() as stack:
        started: dict[str, Any] = {}

        def start(variant: str) -> Any:
            if variant not in started:
                started[variant] = stack.enter_context(VARIANTS[variant]())
            return started[variant]

        yield start


def _marks(variant: str) -> list[pytest.MarkDecorator]:
    """Every real proxy's servers are HAProxy's."""
    kinds = {"memory": [], "nginx": [pytest.mark.nginx, pytest.mark.haproxy]}
    kinds |= {kind: [pytest.mark.kubernetes] for kind in ("kube_service", "istio", "gateway_api")}
    return kinds.get(variant.partition("-")[0], [pytest.mark.haproxy])


@pytest.fixture(params=[pytest.param(name, marks=_marks(name)) for name in VARIANTS])
def rig(request: pytest.FixtureRequest, rigs: Callable[[str], Any]) -> Any:
    variant = request.param
    needs = request.node.get_closest_marker("needs")
    if reason := missing(variant):
        print(f"{variant}: {reason}", file=sys.stderr)  # noqa: T201 - nobody should miss that a rig is missing
        pytest.skip(reason)
    rig = rigs(variant)
    lacks = sorted(set(needs.args if needs else ()) - rig.can)
    if lacks:
        pytest.skip(f"{variant} declares that it has no {', '.join(lacks)}")
    rig.reset()
    return rig
