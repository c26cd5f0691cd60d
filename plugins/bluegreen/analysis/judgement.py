"""What one rule says of the evidence so far."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

from bluegreen.catalog.evidence import NoData


class State(StrEnum):
    """Kept, broken, or not enough evidence yet."""

    KEPT = "kept"
    BROKEN = "broken"
    NO_DATA = "no data"


@dataclass(frozen=True)
class Judgement:
    """
    One rule's word.

    :param state: kept, broken or no data
    :param text: one line with the numbers
    :param numbers: the same as JSON values
    """

    state: State
    text: str
    numbers: Mapping[str, Any] = field(default_factory=dict)


class _Rule(Protocol):
    @property
    def no_data(self) -> NoData: ...

    @property
    def says(self) -> str: ...


def no_data(rule: _Rule, why: str, **numbers: Any) -> Judgement:
    """
    Say that a rule has too little evidence, and what its ``no_data`` makes of that.

    :param why: what is there, and what would be enough
    """
    state = {"fail": State.BROKEN, "hold": State.NO_DATA, "ignore": State.KEPT}[rule.no_data]
    return Judgement(state, f"{rule.says}: {why}", numbers)
