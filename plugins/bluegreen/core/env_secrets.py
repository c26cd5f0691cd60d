"""
The Secrets port without Airflow: its connections from the environment, or a file that only we can read.

Not ``secrets.py``: Airflow puts plugin folders on ``sys.path``, and that name is the standard library's.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import parse_qsl, unquote, urlsplit

import yaml

from bluegreen.core.errors import SecretMissing
from bluegreen.core.ports import Credentials

PREFIX = "AIRFLOW_CONN_"
FILE_VARIABLE = "BLUEGREEN_SECRETS"


class EnvironmentSecrets:
    """
    ``AIRFLOW_CONN_<ID>`` as URI or JSON; else the file that ``BLUEGREEN_SECRETS`` names: id to login and password.

    :param environment: the variables, by default the process's own
    """

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        self._environment = os.environ if environment is None else environment

    def __call__(self, connection_id: str) -> Credentials:
        """
        Return the credentials of a connection.

        :raises SecretMissing: there is none, or what holds it cannot be used; no value is ever shown
        """
        variable = PREFIX + connection_id.upper()
        if value := self._environment.get(variable, ""):
            return _from_json(value, variable) if value.lstrip().startswith("{") else _from_uri(value, variable)
        if file := self._environment.get(FILE_VARIABLE, ""):
            found = _from_file(Path(file), connection_id)
            if found:
                return found
        both = f"set {variable}, or {FILE_VARIABLE} to a file of mode 0600 with {connection_id}: {{login, password}}"
        raise SecretMissing("no such connection", service=connection_id, next_step=both)


def _refuse(part: str, fact: str, next_step: str) -> NoReturn:
    raise SecretMissing(fact, service=part, next_step=next_step) from None


def _from_uri(value: str, variable: str) -> Credentials:
    """Read Airflow's URI form: ``type://[protocol://]login:password@host:port/schema``, each part quoted for URLs."""
    _, found, rest = value.partition("://")
    if "://" in rest:
        protocol, _, rest = rest.partition("://")
        found = "" if {"@", ":"} & set(protocol) or "://" in rest else found
    try:
        address = urlsplit("//" + rest)
    except ValueError:
        found = ""
    if not found:
        _refuse(variable, "neither a readable URI nor JSON", "write type://login:password@host, quoted for URLs")
    login, password, host = (unquote(word or "") for word in (address.username, address.password, address.hostname))
    try:
        return Credentials(login, password, host, address.port, _extra(dict(parse_qsl(address.query))))
    except ValueError:
        _refuse(variable, "its port or its extra cannot be read", "write type://login:password@host:port?key=value")


def _extra(words: Mapping[str, Any]) -> dict[str, Any]:
    """Return the type's own fields; Airflow writes them as one JSON object where a URL cannot say them."""
    whole = words.get("__extra__")
    return json.loads(whole) if whole else dict(words)


def _from_json(value: str, variable: str) -> Credentials:
    try:
        return _credentials(json.loads(value))
    except (ValueError, TypeError):
        _refuse(variable, "not a readable JSON connection", 'write {"login": "…", "password": "…"}')


def _credentials(entry: Any) -> Credentials:
    if not isinstance(entry, dict):
        raise TypeError
    login, password, host = (entry.get(key) or "" for key in ("login", "password", "host"))
    port, extra = entry.get("port") or None, entry.get("extra") or {}
    extra = json.loads(extra) if isinstance(extra, str) else extra
    if not all(isinstance(word, str) for word in (login, password, host)) or not isinstance(extra, dict):
        raise TypeError
    return Credentials(login, password, host, int(port) if port else None, extra)


def _from_file(path: Path, connection_id: str) -> Credentials | None:
    try:
        # As text, each of them: YAML would read the password 0123 as a number.
        entries = yaml.load(_private_text(path), Loader=yaml.CBaseLoader)  # noqa: S506 - makes texts only
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        _refuse(f"{path}:{line}", "no valid YAML or JSON", "write id: {login: …, password: …}")
    except (ValueError, yaml.YAMLError):
        _refuse(str(path), "no valid YAML or JSON", "write it as UTF-8 text")
    entry = entries.get(connection_id) if isinstance(entries, dict) else None
    if entry is None:
        return None
    try:
        return _credentials(entry)
    except (TypeError, ValueError):
        _refuse(f"{path}: {connection_id}", "found no login and password", "write id: {login: …, password: …}")


def _private_text(path: Path) -> str:
    """Read a file whose owner and mode are looked at on the open file, so that nobody can change it in between."""
    try:
        with path.open("rb") as file:
            state = os.fstat(file.fileno())
            if state.st_uid != os.geteuid():
                _refuse(str(path), "belongs to another user", f"chown {os.geteuid()} {path}")
            if mode := stat.S_IMODE(state.st_mode) & 0o077:
                fact = f"others may use it (mode {stat.S_IMODE(state.st_mode):04o}, {mode:04o} too much)"
                _refuse(str(path), fact, f"chmod 600 {path}")
            return file.read().decode()
    except OSError as error:
        reason = (error.strerror or "unreadable").lower()
        _refuse(str(path), f"cannot be read: {reason}", f"{FILE_VARIABLE} names it")
