"""The latest stretch of a series, against its own definition."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from bluegreen.analysis.series import Counted, Row, Series
from bluegreen.core.colors import Color


def series(growth: list[tuple[int, int]]) -> Series:
    rows, requests = [Row(0.0, dict.fromkeys(Color, Counted()))], 0
    for number, (more, errors) in enumerate(growth, start=1):
        requests += more
        before = rows[-1].colors[Color.GREEN].errors
        rows.append(Row(float(number), {color: Counted(requests, before + min(more, errors)) for color in Color}))
    return Series({}, rows=rows)


def by_definition(found: Series, window: float, least: int) -> tuple[int, int, float]:
    """The shortest one that is long enough and holds enough; all there is where none is."""
    last, begin = found.rows[-1], found.rows[0]
    for row in reversed(found.rows):
        if last.at - row.at >= window and last.since(row, Color.GREEN).requests >= least:
            begin = row
            break
    counted = last.since(begin, Color.GREEN)
    return counted.requests, counted.errors, last.at - begin.at


@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 2)), max_size=40),
    st.integers(0, 50),
    st.integers(1, 60),
)
def test_the_latest_stretch_is_found_at_once(growth: Any, window: int, least: int) -> None:
    found = series(growth)
    assert found.stretch(Color.GREEN, float(window), least) == by_definition(found, float(window), least)
