"""Durations as people write them: ``30s``, ``5m``, ``1h30m``, ``500ms``."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

PATTERN = r"^(?:\d+(?:ms|s|m|h|d))+$"
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def parse(value: Any) -> timedelta:
    """
    Read a duration.

    :raises ValueError: it has no unit, or is no text
    """
    if isinstance(value, timedelta):
        return value
    if not isinstance(value, str) or not re.fullmatch(PATTERN, value):
        raise ValueError("a duration is a whole number with a unit, like 500ms, 30s, 5m, 24h or 1h30m")
    parts = re.findall(r"(\d+)(ms|s|m|h|d)", value)
    if any(len(number) > 9 for number, _ in parts):
        raise ValueError("a duration has at most 9 digits before a unit")
    try:
        return timedelta(seconds=sum(int(number) * _UNITS[unit] for number, unit in parts))
    except OverflowError:
        raise ValueError("a duration is at most 999999999d") from None


def text(value: timedelta) -> str:
    """Write a duration the shortest way that ``parse`` reads back."""
    left, words = round(value.total_seconds() * 1000), []
    for unit, size in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)):
        count, left = divmod(left, size)
        if count:
            words.append(f"{count}{unit}")
    return "".join(words) or "0s"


Duration = Annotated[
    timedelta,
    BeforeValidator(parse),
    PlainSerializer(text),
    WithJsonSchema({"type": "string", "pattern": PATTERN, "examples": ["30s", "5m"]}),
]
