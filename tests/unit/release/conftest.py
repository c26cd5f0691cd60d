"""A real PostgreSQL for the use cases that change databases, and a second one beside it."""

import pytest

from tests.rigs.postgres import missing, postgres
from tests.rigs.shop_database import ShopDatabase
from tests.unit.migrations.backfill.conftest import LOGICAL


@pytest.fixture(scope="session")
def pg():
    assert not missing(), missing()
    with postgres(**LOGICAL) as server:
        yield server


@pytest.fixture(scope="session")
def pg_two():
    with postgres(**LOGICAL) as server:
        yield server


@pytest.fixture
def database(pg, tmp_path):
    return ShopDatabase(pg, tmp_path / "migrations")
