"""Markdown tables, and figures beside their goals."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple


class Goal(NamedTuple):
    """
    What a figure is to be.

    :param what: in words
    :param found: the figure, None when it could not be measured
    :param most: the greatest value that is good
    """

    what: str
    found: float | None
    most: float

    @property
    def line(self) -> list[str]:
        """As a row of `goals`."""
        verdict = "" if self.found is None else "met" if self.found <= self.most else "**missed**"
        return [self.what, cell(self.found), cell(self.most), verdict]


def table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *([cell(one) for one in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def goals(found: Iterable[Goal]) -> str:
    """A table of goals."""
    return table(["goal", "found", "at most", ""], (goal.line for goal in found))


def facts(machine: Mapping[str, Any]) -> str:
    """The machine in one line."""
    return ", ".join(f"{name} {value}" for name, value in machine.items() if value is not None)


def cell(value: Any) -> str:
    """A figure as people read it."""
    if value is None:
        return "not measured"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def ratio(above: float | None, below: float | None) -> float | None:
    """A quotient; None where a part is missing."""
    return round(above / below, 3) if above is not None and below else None
