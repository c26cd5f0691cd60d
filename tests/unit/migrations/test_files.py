"""Migration files: which names are some, and in which order they stand."""

from __future__ import annotations

from pathlib import Path

import pytest

from bluegreen.core.errors import MigrationRefused
from bluegreen.migrations.files import read
from bluegreen.migrations.ports import Phase


def _write(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"-- {name}\n")


def test_numbers_order_them_within_each_phase(tmp_path: Path) -> None:
    _write(
        tmp_path, "0010_b.expand.sql", "0002_a.expand.sql", "0002_a.contract.sql", "0002_a.backfill.yaml", "README.md"
    )

    found = read(tmp_path)

    assert [(one.name, one.phase) for one in found] == [
        ("0002_a.expand.sql", Phase.EXPAND),
        ("0010_b.expand.sql", Phase.EXPAND),
        ("0002_a.backfill.yaml", Phase.BACKFILL),
        ("0002_a.contract.sql", Phase.CONTRACT),
    ]
    assert found[0].sql == "-- 0002_a.expand.sql\n"


def test_flyway_names_in_a_folder_a_phase(tmp_path: Path) -> None:
    _write(tmp_path, "expand/V2__b.sql", "expand/V1__a.sql", "contract/V1__a.sql")

    assert [one.name for one in read(tmp_path)] == ["expand/V1__a.sql", "expand/V2__b.sql", "contract/V1__a.sql"]


def test_no_folder_is_no_migrations(tmp_path: Path) -> None:
    assert read(tmp_path / "none") == ()


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (["0001_a.sql"], "0001_a.sql is no migration's name"),
        (["V1__a.sql"], "V1__a.sql is no migration's name"),
        (["0001_a.backfill.sql"], "0001_a.backfill.sql is sql"),
        (["0001_a.expand.yaml"], "0001_a.expand.yaml is yaml"),
        (["0001_a.expand.sql", "1_b.expand.sql"], "1_b.expand.sql has the number of 0001_a.expand.sql"),
    ],
)
def test_a_wrong_name_is_refused_by_name(tmp_path: Path, names: list[str], says: str) -> None:
    _write(tmp_path, *names)

    with pytest.raises(MigrationRefused, match=says) as refused:
        read(tmp_path)
    assert refused.value.next_step


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "0001_a.expand.sql").write_bytes(b"\xff\xfe")

    with pytest.raises(MigrationRefused, match="cannot be read"):
        read(tmp_path)
