"""Passwords of databases, and values of their rows: in no error, log line or result of the steps that change them."""

from __future__ import annotations

import logging
import traceback

import pytest

from bluegreen.migrations.ports import Phase
from bluegreen.release import migrate
from bluegreen.release.contract import contract
from bluegreen.release.retire import retire
from bluegreen.release.scratch import try_on_scratch
from bluegreen.release.shift import settle, shift
from tests.rigs.postgres import PASSWORD, missing, postgres
from tests.rigs.shop_database import BACKFILL, EXPAND, ShopDatabase, asked, target
from tests.unit.release.world import claimed

ROW = "planted-row-7f3a91"
LITERAL = "planted-literal-7f3a91"
PLANTED = (PASSWORD, ROW, LITERAL)


@pytest.fixture(scope="module")
def pg():
    assert not missing(), missing()
    with postgres() as server:
        yield server


@pytest.fixture
def database(pg, tmp_path):
    made = ShopDatabase(pg, tmp_path / "migrations")
    made.sql(f"UPDATE users SET name = '{ROW}'")
    made.settings["backfill"] = {"timeout": "5s"}
    return made


def told(call, said):
    """Return everything that anybody could read of a call."""
    try:
        return repr(call()) + "\n".join(said)
    except Exception as error:  # noqa: BLE001 - whatever it is, it must hold no secret
        return "".join(traceback.format_exception(error)) + "\n".join(said)


FAILING = {
    "unique": f"CREATE TABLE b (name text UNIQUE); INSERT INTO b VALUES ('{LITERAL}'); INSERT INTO b VALUES ('{LITERAL}');",
    "cast": f"INSERT INTO users (id) VALUES ('{LITERAL}');",
    "role": f"CREATE ROLE planted_role PASSWORD '{LITERAL}' NONSENSE;",
    "check": "ALTER TABLE users ADD CONSTRAINT c CHECK (length(name) < 3);",
}


@pytest.mark.parametrize("kind", FAILING)
def test_failing_sql_quotes_no_value(database, caplog, kind):
    caplog.set_level(logging.DEBUG)
    database.write(_0001_a_expand=FAILING[kind])
    service, said = database.service(), []
    for call in (
        lambda: migrate.lint_pending(service, database.secrets, Phase.EXPAND, said.append),
        lambda: migrate.expand(service, database.secrets, "run@1", said.append),
        lambda: migrate.execute(service, database.secrets, Phase.EXPAND, "run@1", said.append),
    ):
        found = told(call, said) + caplog.text
        assert "0001_a.expand.sql" in found
        assert [secret for secret in PLANTED if secret in found] == []
    if "bluegreen_migrations" in database.tables():  # what does not parse never comes so far
        noted = repr(database.sql("SELECT * FROM bluegreen_migrations"))
        assert [secret for secret in PLANTED if secret in noted] == []


def test_a_backfill_and_a_scratch_database_quote_none(database, pg, tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    database.write(
        _0001_a_expand=EXPAND, _0001_a_backfill=BACKFILL.replace("full_name: name", "full_name: (name::int)::text")
    )
    other = ShopDatabase(pg, tmp_path / "migrations")
    database.settings["scratch"] = {
        "database": {"connection": "scratch", "name": other.name},
        "test": ["sh", "-c", "echo $DATABASE_URL; exit 3"],
    }
    service, said = database.service(), []
    migrate.expand(service, database.secrets, "run@1", said.append)
    found = told(lambda: migrate.backfill(service, database.secrets, said.append), said)
    assert "0001_a.backfill.yaml" in found
    plan = claimed().release.model_copy(update={"service": service})
    found += told(lambda: try_on_scratch(plan, database.secrets, said.append), said) + caplog.text
    assert "postgresql://postgres:***@" in found
    assert [secret for secret in PLANTED if secret in found] == []


def test_a_contract_and_a_watermark_quote_none(database, caplog):
    caplog.set_level(logging.DEBUG)
    database.write(
        _0001_a_expand=EXPAND, _0001_a_contract="ALTER TABLE users ALTER COLUMN name TYPE int USING name::int;"
    )
    database.settings["contract"] = {"soak": "0s"}
    database.settings["behind"] = [{"name": "outbox", "query": "SELECT name FROM users LIMIT 1", "within": "1s"}]
    database.settings["accept"] = [
        {"file": "0001_a.contract.sql", "rule": "alter-column-type", "reason": "the test wants it to fail"}
    ]
    with target() as server:
        database.more = asked(server)
        service, said, world = database.service(), [], claimed()
        migrate.expand(service, database.secrets, "run@1", said.append)
        found = told(lambda: migrate.caught_up(service, database.secrets, said.append), said)
        assert "wanted one number" in found
        ports, release = world.ports(service), world.release
        settle(ports, release, shift(ports, release, "switch", 100, release.epoch).epoch)
        retire(ports, "not needed", "tests")
        found += told(lambda: contract(ports, database.secrets, "c-1"), world.said) + caplog.text
    assert "0001_a.contract.sql" in found
    assert "invalid input syntax" in found
    assert [secret for secret in PLANTED if secret in found] == []
