"""What a rule says of a statement, before the phase decides whether that is a finding."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from bluegreen.migrations.rules.known import Known


@dataclass(frozen=True)
class Hit:
    """
    A rule that fits.

    :param rule: its name in the table
    :param fact: what the statement does, with names: half a sentence
    :param safe: SQL to write instead, or comments
    """

    rule: str
    fact: str
    safe: str


Check = Callable[[Any, Known], Iterator[Hit]]
"""Takes a node of PostgreSQL's parser and what is known before it."""
