"""One statement of a migration: what it holds while it runs, and whether it can be undone by a rollback."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from bluegreen.migrations.databases import shown


class Class(StrEnum):
    """What a statement does to who uses the database meanwhile."""

    LOCKING = "locking"
    """It takes a lock that others wait behind: short tries, and it may not run long."""
    ONLINE = "online"
    """Reads and writes go on while it waits and while it works: it may do both for long."""
    SETTING = "setting"
    """Of the session; said again whenever a migration goes on in another one."""
    OURS = "ours"
    """A timeout: the service file says it, so the line is passed over."""


@dataclass(frozen=True)
class Statement:
    """
    One statement of a file.

    :param text: as it is sent
    :param line: in the file, from 1
    :param cls: what it does to others
    :param alone: it needs a transaction that nothing else of its file is in
    :param outside: it cannot be in a transaction at all
    :param node: as the database's parser sees it, where there is one
    """

    text: str
    line: int
    cls: Class
    alone: bool = False
    outside: bool = False
    node: Any = None

    def __str__(self) -> str:
        return shown(self.text)


def digest(statements: Iterable[Statement]) -> str:
    """Return the checksum of statements as they stand in a file; comments between them do not count."""
    return hashlib.sha256("\0".join(one.text for one in statements).encode()).hexdigest()


@dataclass(frozen=True)
class Unit:
    """
    What is done or not done as one.

    :param first: its first statement's index in the file
    :param end: index behind its last one
    """

    first: int
    end: int
    outside: bool


def units(statements: Sequence[Statement], *, ddl_rolls_back: bool = True) -> tuple[Unit, ...]:
    """
    Cut a file into what is done as one: all of it, where nothing forbids that, or each statement by itself.

    :param ddl_rolls_back: False where each statement that changes the schema commits by itself (MySQL)
    """
    if ddl_rolls_back and not any(one.alone or one.outside for one in statements):
        return (Unit(0, len(statements), outside=False),) if statements else ()
    return tuple(Unit(index, index + 1, one.outside) for index, one in enumerate(statements))
