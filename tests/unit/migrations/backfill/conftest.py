"""One real PostgreSQL server for all of these tests, and a database for each."""

import pytest

from tests.rigs.postgres import missing, postgres


@pytest.fixture(scope="session")
def backfill_server():
    assert not missing(), missing()
    with postgres() as server:
        yield server


@pytest.fixture
def connect(backfill_server):
    """Opens a session of a new database."""
    name = backfill_server.database()

    def open_session(**words):
        return backfill_server.connect(name, **words)

    return open_session
