"""Every unsafe file has its class, its rule and its safe form; the safe forms are safe; the safe files are clean."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from pglast import parse_sql

from bluegreen.cli.main import main
from bluegreen.migrations.files import read
from bluegreen.migrations.findings import Finding
from bluegreen.migrations.lint import lint
from bluegreen.migrations.ports import Migration, Phase
from bluegreen.migrations.rules.table import RULES
from tests.migrations.expected import UNSAFE, UNSAFE_MYSQL

HERE = Path(__file__).parent
KINDS = {"unsafe": "postgresql", "unsafe_mysql": "mariadb"}
CASES = [pytest.param("unsafe", *one, id=one[0]) for one in UNSAFE] + [
    pytest.param("unsafe_mysql", *one, id=f"mysql {one[0]}") for one in UNSAFE_MYSQL
]
HEADER = re.compile(r"^-- in (the next )?(expand|contract)\b.*:$")


@pytest.fixture(scope="module")
def found() -> dict[tuple[str, str], list[Finding]]:
    told = {}
    for folder, kind in KINDS.items():
        for one in read(HERE / folder):
            # Each by itself: what one file makes must not help the next one.
            told[folder, one.name] = lint([one], database_type=kind)
    return told


@pytest.mark.parametrize(("folder", "file", "hazard", "rule", "safe"), CASES)
def test_an_unsafe_file_has_its_class_its_rule_and_its_safe_form(found, folder, file, hazard, rule, safe):
    fitting = [one for one in found[folder, file] if one.rule == rule]
    assert [(one.hazard, one.rule) for one in fitting] == [(hazard, rule)], found[folder, file]
    one = fitting[0]
    assert re.search(safe, one.safe_form), one.safe_form
    assert one.text
    assert one.statement
    assert one.line == (HERE / folder / file).read_text().splitlines().index(_first(one, HERE / folder / file)) + 1


def _first(finding: Finding, path: Path) -> str:
    lines = path.read_text().splitlines()
    masked = (
        finding.statement.rpartition("'***'")[0].rpartition("'")[0] if "***" in finding.statement else finding.statement
    )
    return next(line for line in lines if line.startswith(masked.split("'***'")[0].rstrip(";")))


def test_every_file_is_expected_to_be_something(found):
    assert {(folder, name) for folder, name in found} == {(case.values[0], case.values[1]) for case in CASES}
    assert len(UNSAFE) >= 60


def test_the_files_try_every_rule_but_the_one_of_overrides():
    tried = {rule for _, _, rule, _ in (*UNSAFE, *UNSAFE_MYSQL)}
    assert set(RULES) - tried == {"stale-override"}


def in_files(finding: Finding) -> list[Migration]:
    """The files that a safe form says are to be written; what is a comment is none."""
    parts: list[tuple[Phase, list[str]]] = [(finding.phase, [])]
    for line in finding.safe_form.splitlines():
        if header := HEADER.match(line):
            parts.append((Phase(header[2]), []))
        elif line == "-- in the next file:":
            parts.append((parts[-1][0], []))
        else:
            parts[-1][1].append(line)
    texts = [(phase, "\n".join(lines)) for phase, lines in parts]
    return [
        Migration(f"{n}", phase, text)
        for n, (phase, text) in enumerate(texts)
        if re.search(r"^[A-Z]", text, re.MULTILINE)
    ]


@pytest.mark.parametrize(("folder", "file"), [case.values[:2] for case in CASES if case.values[0] == "unsafe"])
def test_a_safe_form_is_sql_that_is_safe_in_its_phase(found, folder, file):
    for one in found[folder, file]:
        files = in_files(one)
        for written in files:
            assert parse_sql(written.sql)
        assert lint(files, database_type="postgresql") == [], one.safe_form


def test_most_safe_forms_are_whole_sql(found):
    whole = [one for (folder, _), told in found.items() if folder == "unsafe" for one in told if in_files(one)]
    assert len(whole) >= 65


@pytest.mark.parametrize(("folder", "file"), [case.values[:2] for case in CASES if case.values[0] == "unsafe_mysql"])
def test_a_safe_form_for_mysql_is_safe(found, folder, file):
    for one in found[folder, file]:
        assert lint(in_files(one), database_type="mysql") == [], one.safe_form


@pytest.mark.parametrize(("folder", "words"), [("safe", []), ("safe_mysql", ["--database", "mariadb"])])
def test_the_safe_files_are_clean(capsys, folder, words):
    assert main(["migrations", "lint", *words, str(HERE / folder)]) == 0
    assert ": 0 findings" in capsys.readouterr().out
    if folder == "safe":
        assert sum(len(parse_sql(one.sql)) for one in read(HERE / folder)) >= 40


def test_the_command_names_class_and_safe_form_of_each(capsys):
    assert main(["migrations", "lint", "--json", str(HERE / "unsafe")]) == 1
    told = json.loads(capsys.readouterr().out)
    by_file = {Path(one["file"]).name: one for one in told}
    assert set(by_file) == {file for file, *_ in UNSAFE}
    assert all(one["class"] and one["safe_form"] and Path(one["file"]).is_file() for one in told)
    fields = {"file", "line", "phase", "rule", "class", "text", "safe_form", "statement"}
    assert {frozenset(one) for one in told} == {frozenset(fields)}
    assert main(["migrations", "lint", str(HERE / "unsafe")]) == 1
    assert "  write instead:\n    -- in contract:\n    ALTER TABLE users DROP COLUMN" in capsys.readouterr().out
