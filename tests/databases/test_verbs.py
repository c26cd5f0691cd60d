"""``bluegreen migrations plan`` and ``status`` on a real PostgreSQL, and the files of ``dual-write``."""

from __future__ import annotations

import json

import pytest
import yaml

from bluegreen.cli.main import main
from bluegreen.core.ports import Credentials
from bluegreen.migrations.files import read
from bluegreen.migrations.lint import lint
from bluegreen.migrations.ports import Phase
from tests.rigs.migrations import SHOP

PLANTED = "planted-4711"


@pytest.fixture
def verb(rig, tmp_path_factory, monkeypatch, capsys):
    """Ask the command about the rig's database; returns its exit code and what it said."""
    whole = yaml.safe_load(SHOP.read_text())
    section = {
        "database": {"connection": "shop_db", "name": rig.dbname},
        "tool": {"type": "sql", "folder": str(rig.folder)},
    }
    services = tmp_path_factory.mktemp("services")
    (services / "shop.yaml").write_text(yaml.safe_dump(whole | {"migrations": section}))
    given: Credentials = rig.server.credentials()
    told = {"host": given.host, "port": given.port, "login": given.login, "password": given.password or PLANTED}
    monkeypatch.setenv("AIRFLOW_CONN_SHOP_DB", json.dumps(told))

    def ask(*words):
        code = main(["--services", str(services), "migrations", *words])
        said = "".join(capsys.readouterr())
        assert PLANTED not in said
        return code, said

    return ask


def test_plan_shows_each_statement_and_touches_nothing(rig, verb):
    rig.write(_0001_a_expand="CREATE TABLE a (id int);\nALTER TABLE a ADD COLUMN b int;\n")
    code, said = verb("plan", "shop")
    assert (code, "CREATE TABLE a" in said, "lock_timeout" in said) == (0, True, True)
    assert rig.sql("SELECT to_regclass('a'), to_regclass('bluegreen_migrations')") == [(None, None)]
    rig.runner().apply(Phase.EXPAND)
    assert verb("plan", "shop") == (0, "expand: nothing is pending\n")


def test_status_tells_what_is_done(rig, verb):
    rig.write(_0001_a_expand="CREATE TABLE a (id int);", _0001_a_contract="DROP TABLE a;")
    rig.runner().apply(Phase.EXPAND)
    code, said = verb("status", "shop")
    told = json.loads(said)
    assert code == 0
    assert told["version"] == "0001_a.expand.sql"
    assert told["migrations"] == {"0001_a.expand.sql": "done", "0001_a.contract.sql": "pending"}
    assert (told["locks"], told["backfills_left"]) == ([], [])


def test_status_of_a_database_that_is_not_there_says_so(rig, verb):
    rig.server.drop(rig.dbname)
    code, said = verb("status", "shop")
    assert code == 1
    assert "does not exist" in json.loads(said)["not_known"]["migrations"]


def test_dual_write_leaves_files_that_lint_clean_and_never_overwrites(rig, verb):
    words = ("dual-write", "users", "full_name", "first_name", "last_name", "--into", str(rig.folder))
    code, said = verb(*words)
    assert (code, len(said.splitlines())) == (0, 3)
    files = read(rig.folder)
    assert [one.phase for one in files] == list(Phase)
    assert lint(files, database_type="postgresql") == []
    code, said = verb(*words)
    assert (code, "is there already; give another --number, or --into" in said) == (2, True)


def test_dual_write_into_three_columns_is_refused(verb):
    code, said = verb("dual-write", "users", "a", "b", "c", "d")
    assert (code, "found 3 new columns; name one, or two" in said) == (2, True)
