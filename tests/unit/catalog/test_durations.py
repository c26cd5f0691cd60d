"""Durations as people write them."""

from datetime import timedelta

import pytest

from bluegreen.catalog.durations import parse, text


@pytest.mark.parametrize(
    ("written", "seconds"),
    [("500ms", 0.5), ("30s", 30), ("5m", 300), ("1h30m", 5400), ("2d", 172_800), ("1m500ms", 60.5), ("0s", 0)],
)
def test_a_duration_is_read_and_written_back(written, seconds):
    assert parse(written) == timedelta(seconds=seconds)
    assert text(parse(written)) == written


def test_the_shortest_way_to_write_it():
    assert text(timedelta(seconds=90_061)) == "1d1h1m1s"


def test_a_timedelta_is_one_already():
    assert parse(timedelta(seconds=3)) == timedelta(seconds=3)


@pytest.mark.parametrize("written", ["", "30", "s", "30 s", "-3s", "1.5s", "30s\n", "3w", 30, None, True])
def test_what_is_no_duration(written):
    with pytest.raises(ValueError, match="a duration is a whole number with a unit"):
        parse(written)
