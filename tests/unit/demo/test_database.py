"""The demo's PostgreSQL, by each of its sources, and what the shop does with it before and after a migration."""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path

import psutil
import pytest

from bluegreen.migrations.dual_write import split
from demo.postgres import Postgres, debian_programs, wheel_programs
from demo.shop_database import NAMES, ROWS, ShopDatabase
from demo.users import TableUsers


def processes(home: Path) -> list[str]:
    lines = (" ".join(one.info["cmdline"] or []) for one in psutil.process_iter(["cmdline"]))
    return [line for line in lines if str(home) in line]


def runs_and_ends(server: Postgres) -> Path:
    """It answers on a socket that is only ours, and leaves neither a process nor a folder that it chose itself."""
    try:
        server.start()
        home = server.home
        with server.connect() as connection:
            assert connection.execute("SHOW listen_addresses").fetchone() == ("",)
        assert (home / ".s.PGSQL.5432").stat().st_mode & 0o077 == 0
        assert processes(home) != []
    finally:
        server.stop()
    assert processes(home) == []
    return home


@pytest.mark.parametrize("source", [debian_programs, wheel_programs])
def test_either_source_brings_a_server_whoever_we_are(tmp_path, source):
    programs = source()
    if programs is None:
        pytest.skip("there is no PostgreSQL of Debian's: apt-get install postgresql")
    home = runs_and_ends(Postgres(tmp_path / "db", programs))
    # pytest's folders are closed to others, as /root is: nobody, who runs it for root, could not get at it there.
    assert (home == tmp_path / "db") == (os.geteuid() != 0)
    assert home.exists() == (home == tmp_path / "db")


def test_a_path_too_long_for_a_socket_is_not_taken(tmp_path):
    home = runs_and_ends(Postgres(tmp_path / ("deep" * 30)))
    assert not str(home).startswith(str(tmp_path))
    assert not home.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's programs may be out of reach of who runs them")
def test_programs_in_a_folder_that_is_closed_to_others_are_copied(tmp_path):
    package = wheel_programs().parents[1]
    for one in (package, package.with_name(f"{package.name}.libs")):
        shutil.copytree(one, tmp_path / one.name, symlinks=True)
    runs_and_ends(Postgres(tmp_path / "db", tmp_path / package.name / "pginstall" / "bin"))


@pytest.fixture
def database(tmp_path):
    made = ShopDatabase("shop", tmp_path / "db", tmp_path / "migrations")
    try:
        made.start()
        yield made
    finally:
        made.stop()


def added(database: ShopDatabase, version: str, name: str) -> None:
    async def add():
        users = TableUsers(database.conninfo, version)
        await users.add(name)
        (newest, *_) = await users.latest()
        await users.close()
        return newest["name"]

    assert asyncio.run(add()) == name


def test_each_version_writes_its_own_columns_and_both_are_right_while_both_are_there(database):
    added(database, "1.4.0", "Eva Luna")
    files = split("users", "full_name", ("first_name", "last_name"))
    assert (database.migrations / f"{NAMES}.contract.sql").read_text() == files.contract
    with database.server.connect("shop") as connection:
        connection.execute(files.expand)
        added(database, "1.4.0", "Ana de la Mora")
        added(database, "1.5.0", "Luis Vega Sol")
        found = connection.execute("SELECT full_name, first_name, last_name FROM users ORDER BY id DESC LIMIT 2")
        assert found.fetchall() == [("Luis Vega Sol", "Luis", "Vega Sol"), ("Ana de la Mora", "Ana", "de la Mora")]
        assert database.wrong_names() == ROWS + 1  # nobody has filled the others yet
        connection.execute("DELETE FROM users WHERE first_name IS NULL")
        assert database.wrong_names() == 0
        connection.execute(files.contract)
    added(database, "1.5.0", "Eva")
    assert database.wrong_names() == 0
    assert "full_name" not in database.columns()
