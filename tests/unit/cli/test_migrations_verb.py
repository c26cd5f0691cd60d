"""``bluegreen migrations lint``: which migrations it looks at, and how it ends."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from bluegreen.cli.main import main

ROOT = Path(__file__).parents[3]
DROP = "ALTER TABLE users DROP COLUMN legacy;\n"
WHY = "nobody reads it since 1.4"


@pytest.fixture
def services(tmp_path):
    (tmp_path / "services").mkdir()
    (tmp_path / "migrations" / "shop").mkdir(parents=True)
    (tmp_path / "migrations" / "shop" / "0001_x.expand.sql").write_text(DROP)

    def write(**section):
        whole = yaml.safe_load((ROOT / "include/services/shop.yaml").read_text())
        migrations = {"database": {"connection": "shop_db", "name": "shop"}} | section
        (tmp_path / "services" / "shop.yaml").write_text(yaml.safe_dump(whole | {"migrations": migrations}))
        return tmp_path / "services"

    return write


def lint(services, *words):
    return main(["--services", str(services), "migrations", "lint", *words])


@pytest.mark.parametrize("words", [["shop"], []])
def test_a_service_is_looked_at_in_its_usual_folder(services, capsys, words):
    folder = services()
    assert lint(folder, *words) == 1
    said = capsys.readouterr().out
    assert said.startswith(f"{folder.parent}/migrations/shop/0001_x.expand.sql:1: drop-column (breaks_old_color): ")
    assert said.endswith("1 files: 1 findings\n")


def test_what_its_file_accepts_is_told_and_is_no_fault(services, capsys):
    accept = [{"file": "0001_x.expand.sql", "rule": "drop-column", "reason": WHY}]
    assert lint(services(accept=accept), "shop", "--json") == 0
    assert [one["accepted"] for one in json.loads(capsys.readouterr().out)] == [WHY]
    assert lint(services(accept=accept), "shop") == 0
    said = capsys.readouterr().out
    assert f"  accepted: {WHY}\n" in said
    assert said.endswith("1 files: 0 findings, 1 accepted\n")


def test_a_services_own_folder_and_kind_of_database(services, tmp_path, capsys):
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "0001_x.expand.sql").write_text("RENAME TABLE a TO b;\n")
    database = {"type": "mariadb", "connection": "shop_db", "name": "shop"}
    assert lint(services(database=database, tool={"type": "sql", "folder": str(tmp_path / "own")}), "shop") == 1
    assert ":1: rename-table (breaks_old_color)" in capsys.readouterr().out


def test_several_folders_at_once(tmp_path, capsys):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "0001_x.expand.sql").write_text(DROP)
    assert main(["migrations", "lint", str(tmp_path / "a"), str(tmp_path / "b")]) == 1
    assert capsys.readouterr().out.endswith("2 files: 2 findings\n")


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"tool": {"type": "dbmate", "folder": "db"}}, "shop: its migrations are in dbmate: "),
        ({"tool": None}, "shop: its service file has no section migrations; "),
    ],
)
def test_what_cannot_be_looked_at_here_is_wrong_input(services, capsys, section, said):
    folder = services(**section)
    if section == {"tool": None}:
        (folder / "shop.yaml").write_text((ROOT / "include/services/shop.yaml").read_text())
    assert lint(folder, "shop") == 2
    assert capsys.readouterr().err.startswith(f"bluegreen: {said}")


def test_no_folder_no_service_and_a_wrong_name(services, tmp_path, capsys):
    assert lint(services(), "none") == 2
    (tmp_path / "migrations" / "shop" / "oops.sql").write_text("")
    assert lint(services(), "shop") == 2
    assert "oops.sql is no migration's name" in capsys.readouterr().err
