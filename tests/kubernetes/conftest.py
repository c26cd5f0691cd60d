"""The control plane of this process, a namespace for each test."""

from __future__ import annotations

import pytest

from tests.rigs.kubernetes import missing, shared


@pytest.fixture(scope="session")
def plane():
    if reason := missing():
        pytest.skip(reason)
    return shared()


@pytest.fixture
def shop(plane):
    with plane.namespace() as made:
        yield made
