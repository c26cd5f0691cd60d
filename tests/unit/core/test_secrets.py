"""Credentials without Airflow."""

import json
import os

import pytest

from bluegreen.core.env_secrets import EnvironmentSecrets
from bluegreen.core.errors import SecretMissing
from bluegreen.core.ports import Credentials

# Nothing that is said may hold it.
HIDDEN = "hunter2"


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "secrets.yaml"
    path.write_text(f"shop_db: {{login: me, password: {HIDDEN}}}\n")
    path.chmod(0o600)
    return path


def refused(environment, connection="shop_db"):
    with pytest.raises(SecretMissing) as error:
        EnvironmentSecrets(environment)(connection)
    assert HIDDEN not in str(error.value)
    assert HIDDEN not in repr(error.value)
    assert error.value.__cause__ is None
    return str(error.value)


URIS = [
    f"postgres://me:{HIDDEN}@db:5432/shop",
    "http://me:p%40ss%2Fword%3A%25@host",
    "http://https://me:secret@host:443/path",
    "generic://:only-password@",
    "generic://only-login@host",
    "generic://host",
    "generic://",
    "http://me:pass@host?timeout=5",
    "ssh://me@host:2222?__extra__=%7B%22private_key%22%3A+%22a%5Cnb%22%7D",
    "my-type+x://me:pa+ss@host",
]


@pytest.mark.parametrize("uri", URIS)
def test_a_uri_is_read_as_airflow_reads_it(uri):
    from airflow.sdk import Connection

    airflow = Connection.from_uri(uri, "x")
    found = EnvironmentSecrets({"AIRFLOW_CONN_SHOP_DB": uri})("shop_db")
    assert (found.login, found.password) == (airflow.login or "", airflow.password or "")
    assert (found.port, found.extra) == (airflow.port, airflow.extra_dejson)
    assert found.host == (airflow.host or "").removeprefix("https://")


def test_json_is_read_as_airflow_reads_it():
    from airflow.sdk import Connection

    value = json.dumps(
        {"conn_type": "http", "login": "me", "password": HIDDEN, "host": "h", "port": "8443", "extra": {"a": 1}}
    )
    airflow = Connection.from_json(value, conn_id="x")
    wanted = Credentials(airflow.login, airflow.password, airflow.host, airflow.port, airflow.extra_dejson)
    assert (
        EnvironmentSecrets({"AIRFLOW_CONN_X": value})("x") == wanted == Credentials("me", HIDDEN, "h", 8443, {"a": 1})
    )


def test_json_without_password():
    assert EnvironmentSecrets({"AIRFLOW_CONN_X": '{"login": "me", "password": null}'})("x") == Credentials("me", "")


def test_the_process_environment_is_the_default(monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_SHOP.DB-1", "http://me:pw@h")
    assert EnvironmentSecrets()("shop.db-1") == Credentials("me", "pw", "h")


def test_credentials_are_never_printed():
    assert HIDDEN not in repr(EnvironmentSecrets({"AIRFLOW_CONN_X": f"http://me:{HIDDEN}@h"})("x"))


def test_a_missing_one_names_its_id_and_both_ways():
    assert refused({}) == (
        "shop_db: no such connection; set AIRFLOW_CONN_SHOP_DB, or BLUEGREEN_SECRETS to a file of mode 0600 with "
        "shop_db: {login, password}"
    )


def test_one_that_the_file_lacks_names_both_ways(file):
    assert "other: no such connection; set AIRFLOW_CONN_OTHER" in refused({"BLUEGREEN_SECRETS": str(file)}, "other")


@pytest.mark.parametrize(
    ("value", "fact"),
    [
        (HIDDEN, "neither a readable URI nor JSON"),
        (f"http://me:{HIDDEN}@host?callback=http://x", "neither a readable URI nor JSON"),
        (f"http://me:{HIDDEN}@[host", "neither a readable URI nor JSON"),
        (f"a://b://c://{HIDDEN}", "neither a readable URI nor JSON"),
        (f'{{"password": "{HIDDEN}"', "not a readable JSON connection"),
        (f'{{"password": ["{HIDDEN}"]}}', "not a readable JSON connection"),
        (f'{{"password": "{HIDDEN}", "port": "ssh"}}', "not a readable JSON connection"),
        (f"ssh://me:{HIDDEN}@host:ssh", "its port or its extra cannot be read"),
        (f"ssh://me:{HIDDEN}@host?__extra__=[", "its port or its extra cannot be read"),
    ],
)
def test_a_garbled_variable_is_refused_without_showing_it(value, fact):
    assert refused({"AIRFLOW_CONN_SHOP_DB": value}).startswith(f"AIRFLOW_CONN_SHOP_DB: {fact}; write ")


def test_a_file_of_ours(file):
    assert EnvironmentSecrets({"BLUEGREEN_SECRETS": str(file)})("shop_db") == Credentials("me", HIDDEN)


def test_the_variable_counts_before_the_file(file):
    both = {"BLUEGREEN_SECRETS": str(file), "AIRFLOW_CONN_SHOP_DB": "http://you:else@h"}
    assert EnvironmentSecrets(both)("shop_db") == Credentials("you", "else", "h")


def test_a_json_file(file):
    file.write_text(json.dumps({"shop_db": {"login": "me", "password": "x"}}))
    assert EnvironmentSecrets({"BLUEGREEN_SECRETS": str(file)})("shop_db") == Credentials("me", "x")


def test_a_password_of_digits_stays_as_it_is_written(file):
    file.write_text("shop_db: {password: 0123}")
    assert EnvironmentSecrets({"BLUEGREEN_SECRETS": str(file)})("shop_db") == Credentials("", "0123")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o601])
def test_a_file_that_others_may_use_is_refused(file, mode):
    file.chmod(mode)
    text = refused({"BLUEGREEN_SECRETS": str(file)})
    assert f"others may use it (mode {mode:04o}, {mode & 0o077:04o} too much); chmod 600 {file}" in text


def test_a_read_only_file_is_fine(file):
    file.chmod(0o400)
    assert EnvironmentSecrets({"BLUEGREEN_SECRETS": str(file)})("shop_db").login == "me"


def test_a_file_of_somebody_else_is_refused(file, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: file.stat().st_uid + 1)
    assert "belongs to another user; chown" in refused({"BLUEGREEN_SECRETS": str(file)})


def test_a_file_that_is_not_there_is_refused(tmp_path):
    assert refused({"BLUEGREEN_SECRETS": str(tmp_path / "none")}) == (
        f"{tmp_path}/none: cannot be read: no such file or directory; BLUEGREEN_SECRETS names it"
    )


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        (f"a: {{}}\nshop_db: ]{HIDDEN}", "secrets.yaml:2: no valid YAML or JSON"),
        (f"shop_db: {HIDDEN}", "secrets.yaml: shop_db: found no login and password"),
        (f"shop_db: {{password: [{HIDDEN}]}}", "secrets.yaml: shop_db: found no login and password"),
        (f"- {HIDDEN}", "shop_db: no such connection"),
        ("", "shop_db: no such connection"),
        ("\x07", "secrets.yaml: no valid YAML or JSON"),
    ],
)
def test_a_garbled_file_is_refused_without_showing_it(file, text, fact):
    file.write_text(text)
    assert fact in refused({"BLUEGREEN_SECRETS": str(file)})
