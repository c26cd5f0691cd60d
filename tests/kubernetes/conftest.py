"""The control plane of this process, a namespace for each test."""

from __future__ import annotations

import pytest

from tests.rigs.kubernetes import missing, shared


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
