"""What one rule says of the evidence so far."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


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
