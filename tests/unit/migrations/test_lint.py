"""The linter as a whole: what it knows across files, what was accepted, what no text may do to it."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pglast import parse_sql
from pglast.parser import ParseError

from bluegreen.catalog.migrations import Override
from bluegreen.core.errors import MigrationRefused
from bluegreen.migrations.findings import Hazard, refuse
from bluegreen.migrations.lint import lint
from bluegreen.migrations.ports import Migration, Phase
from bluegreen.migrations.rules.table import NEVER, RULES
from tools.unsafe_changes import PAGE, page

DROP = "ALTER TABLE users DROP COLUMN legacy;"
WHY = "nobody reads it since 1.4"


def expand(*texts):
    return [Migration(f"{n:04}_x.expand.sql", Phase.EXPAND, text) for n, text in enumerate(texts, 1)]


def contract(*texts):
    return [Migration(f"{n:04}_x.contract.sql", Phase.CONTRACT, text) for n, text in enumerate(texts, 1)]


def rules(migrations, kind="postgresql", **more):
    return [one.rule for one in lint(migrations, database_type=kind, **more)]


CHECK = "ALTER TABLE t ADD CONSTRAINT c CHECK (a IS NOT NULL AND b > 0) NOT VALID;"
VALIDATE, NOT_NULL = "ALTER TABLE t VALIDATE CONSTRAINT c;", "ALTER TABLE t ALTER COLUMN a SET NOT NULL;"


def test_not_null_is_fine_after_a_check_that_was_validated_and_only_then():
    assert rules(contract(CHECK, VALIDATE, NOT_NULL)) == []
    assert rules(contract(CHECK, VALIDATE + NOT_NULL)) == []
    assert rules(contract(CHECK, NOT_NULL)) == ["set-not-null"]
    assert rules(contract(CHECK, VALIDATE, NOT_NULL.replace("a SET", "b SET"))) == ["set-not-null"]
    assert rules(contract(CHECK, VALIDATE, "ALTER TABLE t DROP CONSTRAINT c;", NOT_NULL)) == ["set-not-null"]


def test_what_was_applied_before_is_known_and_not_judged():
    applied = [*contract(CHECK, VALIDATE), *expand(DROP)]
    assert rules(contract(NOT_NULL), before=applied) == []
    assert rules(contract(NOT_NULL)) == ["set-not-null"]


def test_a_type_that_earlier_files_tell_may_become_wider_and_not_narrower():
    made = "CREATE TABLE t (name varchar(50), n numeric(8, 2), i integer);"
    change = "ALTER TABLE t ALTER COLUMN {} TYPE {};"
    wider = [("name", "varchar(60)"), ("name", "varchar"), ("name", "text"), ("n", "numeric(9,2)"), ("n", "numeric")]
    narrower = [("name", "varchar(40)"), ("n", "numeric(9,3)"), ("n", "numeric(7,2)"), ("i", "bigint"), ("i", "text")]
    for column, kind in wider:
        assert rules(expand(made, change.format(column, kind))) == [], (column, kind)
    for column, kind in narrower:
        assert rules(expand(made, change.format(column, kind))) == ["alter-column-type"], (column, kind)


def test_a_table_is_new_in_its_own_file_only():
    made, index = "CREATE TABLE t (a bigint);", "CREATE INDEX t_a ON t (a);"
    assert rules(expand(made + index)) == []
    assert rules(expand(made, index)) == ["create-index"]
    assert rules(expand(f'CREATE TABLE "T" (a bigint);{index}')) == ["create-index"]
    assert rules(expand("CREATE TABLE public.t (a bigint);" + index)) == []
    assert rules(expand(made + "ALTER TABLE t ADD FOREIGN KEY (a) REFERENCES users (id);")) == ["add-foreign-key"]


def test_a_check_on_a_new_column_may_not_ask_for_a_value():
    add = "ALTER TABLE t ADD COLUMN a int; ALTER TABLE t ADD CONSTRAINT c CHECK ({}) NOT VALID;"
    assert rules(expand(add.format("a > 0"))) == []
    for asks in ("a IS NOT NULL", "coalesce(a, 0) > 0", "a > b"):
        assert rules(expand(add.format(asks))) == ["constraint-on-existing-column"], asks


def test_a_broken_statement_does_not_hide_the_others():
    found = lint(expand(f"SELECT 1;\nALTER TABEL x;\n\n{DROP}"), database_type="postgresql")
    assert [(one.line, one.rule) for one in found] == [(2, "syntax-error"), (4, "drop-column")]
    assert lint(expand("SELECT 1;\0" + DROP), database_type="postgresql")[0].hazard is Hazard.NOT_VALID


def test_a_trigger_is_the_dual_write_kits_by_both_names():
    trigger = "CREATE TRIGGER {} BEFORE INSERT ON users FOR EACH ROW EXECUTE FUNCTION {}();"
    assert rules(expand(trigger.format("zz_bluegreen_insert_users_name", "bluegreen_sync_users_name"))) == []
    assert rules(expand(trigger.format("zz_bluegreen_insert_users_name", "mine"))) == ["create-trigger"]
    assert rules(expand(trigger.format("mine", "bluegreen_sync_users_name"))) == ["create-trigger"]


def test_squawk_is_heard_where_our_own_rules_say_nothing(monkeypatch):
    from pglast import ast

    from bluegreen.migrations.rules import postgres

    without = {kind: check for kind, check in postgres._CHECKS.items() if kind is not ast.AlterTableStmt}
    monkeypatch.setattr(postgres, "_CHECKS", without)
    found = lint([*expand(f"SELECT 'é';\n{DROP}"), *contract(DROP)], database_type="postgresql")
    assert [(one.file, one.line, one.rule) for one in found] == [("0001_x.expand.sql", 2, "drop-column")]
    assert "squawk: " in found[0].text


def test_every_rule_of_squawk_that_we_meet_has_its_place():
    from pathlib import Path

    from bluegreen.migrations.rules import squawk_pass
    from bluegreen.migrations.rules.squawk_pass import OURS, STYLE, WITNESS

    folder = Path(__file__).parents[2] / "migrations"
    numbered = {path.name for path in folder.rglob("*.sql")}
    assert len(numbered) > 100
    texts = [path.read_text() for path in sorted((folder / "unsafe").glob("*.sql"))]
    met = set()
    original = squawk_pass._run
    squawk_pass._run = lambda *args: [met.add(one["rule_name"]) or one for one in original(*args)]
    try:
        squawk_pass.seen(texts)
    finally:
        squawk_pass._run = original
    assert met - {*OURS, *STYLE, *WITNESS, "syntax-error"} == set()
    assert len(met & set(WITNESS)) > 15
    assert set(WITNESS.values()) <= set(RULES)


def test_without_squawk_nothing_is_called_safe(monkeypatch):
    monkeypatch.setattr("bluegreen.migrations.rules.squawk_pass._program", lambda: "/none/squawk")
    with pytest.raises(MigrationRefused, match=r"squawk could not look .*squawk-cli"):
        lint(expand("SELECT 1;"), database_type="postgresql")


def test_an_accepted_finding_stays_with_its_reason_and_refuses_nothing():
    accept = [Override(file="0001_x.expand.sql", rule="drop-column", reason=WHY)]
    found = lint(expand(DROP), database_type="postgresql", accept=accept)
    assert [one.accepted for one in found] == [WHY]
    assert found[0].as_json()["accepted"] == WHY
    refuse(found)


def test_a_flyway_file_is_accepted_by_its_bare_name():
    accept = [Override(file="V1__x.sql", rule="drop-column", reason=WHY)]
    found = lint([Migration("expand/V1__x.sql", Phase.EXPAND, DROP)], database_type="postgresql", accept=accept)
    assert [one.accepted for one in found] == [WHY]


def test_an_override_that_fits_nothing_is_a_finding_unless_its_file_was_applied():
    stale = [Override(file="0001_x.expand.sql", rule="drop-table", reason=WHY)]
    assert rules(expand(DROP), accept=stale) == ["drop-column", "stale-override"]
    nowhere = [Override(file="0009_y.expand.sql", rule="drop-table", reason=WHY)]
    assert rules(expand("SELECT 1;"), accept=nowhere) == ["stale-override"]
    assert rules(contract("SELECT 1;"), accept=nowhere, before=[Migration("0009_y.expand.sql", Phase.EXPAND, "")]) == []


def test_nobody_can_accept_a_rename():
    assert {name for name in RULES if name.startswith("rename-")} | {"set-schema"} == NEVER
    accept = [Override(file="0001_x.contract.sql", rule="rename-table", reason=WHY)]
    found = lint(contract("ALTER TABLE a RENAME TO b;"), database_type="postgresql", accept=accept)
    assert [(one.rule, one.accepted) for one in found] == [("rename-table", "")]
    with pytest.raises(MigrationRefused, match="an override does not help"):
        refuse(found)


def test_refusal_names_each_open_finding():
    accept = [Override(file="0002_x.expand.sql", rule="truncate", reason=WHY)]
    found = lint(expand(DROP, "TRUNCATE a;", "\nREINDEX TABLE b;"), database_type="postgresql", accept=accept)
    with pytest.raises(MigrationRefused) as refused:
        refuse(found, "shop")
    text = str(refused.value)
    assert text.startswith("shop: migrations: 2 findings in migrations:\n0001_x.expand.sql:1: drop-column (breaks_old")
    assert "0003_x.expand.sql:2: reindex (locks_production)" in text
    assert "    REINDEX TABLE CONCURRENTLY b;" in text
    assert "TRUNCATE" not in text
    refuse([])


def test_backfills_are_not_read_as_sql():
    assert rules([Migration("0001_x.backfill.yaml", Phase.BACKFILL, "table: users")]) == []
    assert rules([Migration("0001_x.backfill.yaml", Phase.BACKFILL, "table: users")], "mysql") == []


SECRETS = [
    "CREATE ROLE a LOGIN PASSWORD '{}';",
    "ALTER ROLE a ENCRYPTED PASSWORD E'{}';",
    "CREATE USER a PASSWORD $x${}$x$;",
    "CREATE ROLE a PASSWRD '{}';",
    "ALTER ROLE a PASSWORD '{}' '{}';",
    "CREATE USER MAPPING FOR a SERVER s OPTIONS (user 'b', password '{}'); DROP TABLE x;",
    "CREATE ROLE a PASSWORD '{}",
    "CREATE USER a IDENTIFIED BY '{}';",
    'ALTER USER a IDENTIFIED BY "{}";',
    "SET PASSWORD FOR a = '{}';",
    "SET PASSWORD FOR a = PASSWORD('{}');",
]


@pytest.mark.parametrize("kind", ["postgresql", "mariadb"])
@pytest.mark.parametrize("text", SECRETS)
def test_no_password_is_shown(text, kind):
    secret = "t0p-Secret-9"  # noqa: S105 - it is nobody's
    found = lint(expand(text.replace("{}", secret)), database_type=kind)
    assert found
    assert secret not in "".join(f"{one}{one.as_json()}" for one in found)


WORDS = st.sampled_from(
    [
        "ALTER",
        "TABLE",
        "users",
        "a",
        "ADD",
        "DROP",
        "COLUMN",
        "CONSTRAINT",
        "c",
        "CHECK",
        "(",
        ")",
        ",",
        ";",
        "'x",
        "$$",
        "$a$",
        '"',
        "int",
        "NOT",
        "NULL",
        "DEFAULT",
        "now()",
        "UPDATE",
        "SET",
        "=",
        "1",
        "CREATE",
        "INDEX",
        "ON",
        "RENAME",
        "TO",
        "/*",
        "--",
        "\n",
        "VALIDATE",
        "TYPE",
        "é",
        "BEGIN",
        "COMMIT",
        "DO",
        "UNIQUE",
        ".",
        "::",
    ]
)
TEXTS = st.one_of(st.text(max_size=80), st.lists(WORDS, max_size=14).map(" ".join))


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(TEXTS, st.sampled_from([Phase.EXPAND, Phase.CONTRACT]))
def test_no_text_ends_the_linter_and_what_does_not_parse_is_not_valid(text, phase):
    found = lint([Migration("0001_x.sql", phase, text)], database_type="postgresql")
    try:
        parse_sql(text)
    except (ParseError, UnicodeError):
        assert Hazard.NOT_VALID in {one.hazard for one in found}
    lint([Migration("0001_x.sql", phase, text)], database_type="mysql")


@pytest.mark.parametrize(
    "text", ["SELECT " + "(" * 20000, "SELECT " + "(" * 3000 + "1" + ")" * 3000, "SELECT '\ud800'"]
)
@pytest.mark.parametrize("kind", ["postgresql", "mysql"])
def test_what_is_nested_too_deep_or_no_text_is_a_finding_or_none(text, kind):
    lint(expand(text), database_type=kind)


def test_many_files_are_linted_at_once():  # how fast is in make bench: lint_500_files_s
    text = f"{DROP}\nCREATE INDEX i ON users (lower(email));\nALTER TABLE users ADD COLUMN n int NOT NULL;\n" * 5
    found = lint(expand(*[text] * 500), database_type="postgresql")
    assert len(found) == 500 * 15


def test_the_page_of_rules_is_as_the_rules_are():
    assert PAGE.read_text() == page(PAGE.read_text()), "python -m tools.unsafe_changes"
    assert all("|" not in f"{rule.why}{rule.instead}" for rule in RULES.values())
