"""
A service's database, PostgreSQL or MySQL: how it is reached, and what its errors mean to somebody who may try again.

No error holds a password, an address or a value of a row: of what a database says, only the first sentence is passed on.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pkgutil import resolve_name
from typing import Any, Protocol
from urllib.parse import quote, urlencode

from bluegreen.catalog.migrations import Database
from bluegreen.core.errors import MigrationFailed
from bluegreen.core.masks import masked
from bluegreen.core.ports import Credentials, Secrets

APPLICATION = "bluegreen-migrations"
CONNECT_TIMEOUT = 10
"""Seconds."""
_LITERALS = re.compile(
    r"\"[^\"]*\"|`[^`]*`"  # names: kept
    r"|\$(\w*)\$.*?(?:\$\1\$|\Z)"  # $$ … $$
    r"|[eE]'(?:[^'\\]|\\.|'')*(?:'|\Z)"
    r"|'(?:[^']|'')*(?:'|\Z)"
    r"|--[^\n]*|/\*.*?(?:\*/|\Z)"
    r"|(?<![\w$\"`])\d+(?:\.\d+)?\b",
    re.DOTALL,
)
_SHOWN = 160


class Kind(StrEnum):
    """What an error of a database means to who asked."""

    LOCK = "lock"
    """A lock could not be had in time, or two waited for each other: nothing happened."""
    SLOW = "slow"
    """It took longer than it may, or somebody cancelled it: nothing happened."""
    LOST = "lost"
    """There is no connection, or no longer: nobody knows what happened."""
    DENIED = "denied"
    """A permission is missing."""
    OTHER = "other"


class SqlTrouble(Exception):
    """
    What a database answered instead of doing it.

    :param words: its own, without values
    :param code: SQLSTATE, or MySQL's number
    """

    def __init__(self, kind: Kind, words: str, code: str = "") -> None:
        self.kind, self.words, self.code = kind, words, code
        super().__init__(f"{words} ({code})" if code else words)


class Session(Protocol):
    """One connection, in which each statement is a transaction until somebody says BEGIN."""

    pid: int

    def execute(self, sql: str, values: Sequence[Any] | None = None) -> list[tuple[Any, ...]]:
        """
        Execute one statement.

        :param values: of its ``%s``; None leaves every per cent sign as it is
        :returns: its rows, none where it has none
        :raises SqlTrouble: it was not done
        """
        ...

    def close(self) -> None:
        """End it; raises nothing."""
        ...


@dataclass(frozen=True)
class Place:
    """
    One database of a service, and how to get in.

    :param service: name in the catalog
    """

    service: str
    database: Database
    credentials: Credentials = field(repr=False)

    @property
    def is_postgresql(self) -> bool:
        """PostgreSQL, or else MySQL or MariaDB."""
        return self.database.type == "postgresql"

    @property
    def hide(self) -> tuple[str, ...]:
        """What no text may show."""
        extra = [value for key, value in self.credentials.extra.items() if "pass" in key and isinstance(value, str)]
        return tuple(secret for secret in (self.credentials.password, *extra) if secret)

    @property
    def url(self) -> str:
        """DATABASE_URL of it, password and all: for a tool's environment, and nothing else."""
        given, words = self.credentials, dict(postgres_words(self.credentials)) if self.is_postgresql else {}
        words.pop("options", None)  # in PGOPTIONS, beside the timeouts
        host, socket = (given.host, "") if not given.host.startswith("/") else ("", given.host)
        login = quote(given.login, safe="") + (f":{quote(given.password, safe='')}" if given.password else "")
        port = f":{given.port}" if given.port and not socket else ""
        if socket:
            words |= {"host" if self.is_postgresql else "socket": socket}
            words |= {"port": str(given.port)} if given.port else {}
        query = f"?{urlencode(words)}" if words else ""
        scheme = "postgresql" if self.is_postgresql else "mysql"
        return f"{scheme}://{login}@{host}{port}/{quote(self.database.name, safe='')}{query}"

    def connect(self) -> Session:
        """
        Connect.

        :raises SqlTrouble: it cannot be reached (``lost``), or does not let us in (``denied``)
        :raises MigrationFailed: the driver is not installed
        """
        module = "pg_session" if self.is_postgresql else "mysql_session"
        try:
            connect: Callable[[Place], Session] = resolve_name(f"bluegreen.migrations.{module}:connect")
        except ImportError as error:
            raise MigrationFailed(
                f"the database's driver is not installed: {error.name}",
                service=self.service,
                next_step="pip install 'airflow-blue-green[migrations]' where this step runs",
            ) from error
        return connect(self)


def place_of(service: str, database: Database, secrets: Secrets) -> Place:
    """
    Find out how a database is reached.

    :raises SecretMissing: its connection is not there
    """
    return Place(service, database, secrets(database.connection))


def postgres_words(credentials: Credentials) -> dict[str, str]:
    """Return what a connection's extra says about TLS and the server's settings, as libpq calls it."""
    known = ("sslmode", "sslrootcert", "sslcert", "sslkey", "sslpassword", "options", "target_session_attrs")
    return {key: str(credentials.extra[key]) for key in known if credentials.extra.get(key)}


def shown(sql: str) -> str:
    """Return a statement in one line, without what stands in it: no value of a row may reach a log."""
    line = masked(" ".join(_LITERALS.sub(_bare, sql).split()))
    return line if len(line) <= _SHOWN else line[: _SHOWN - 1] + "…"


def _bare(found: re.Match[str]) -> str:
    if found[0].startswith(("--", "/*")):
        return ""
    return found[0] if found[0][0] in '"`' else "?"


def own_words(text: str, hide: Sequence[str] = (), code: str = "") -> str:
    """
    Return what a database or a driver said as one line, masked and short.

    :param code: SQLSTATE; of what is wrong with data even the first sentence quotes it
    """
    said = re.sub(r"\".*\"", '"?"', text, flags=re.DOTALL) if code.startswith("22") else text
    return masked(" ".join(said.split()), hide)[:400]
