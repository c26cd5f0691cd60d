"""One PostgreSQL server for all tests here, a database for each."""

from __future__ import annotations

import pytest

from tests.rigs.migrations import SqlRig
from tests.rigs.postgres import missing, postgres


@pytest.fixture(scope="session")
def server():
    if reason := missing():
        pytest.skip(reason)
    with postgres(max_connections="60") as server:
        yield server


@pytest.fixture
def rig(server, tmp_path):
    return SqlRig(server, tmp_path)
