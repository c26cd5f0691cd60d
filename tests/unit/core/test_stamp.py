"""What a stamp leaves in a router."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from bluegreen.core.stamp import LONGEST_WHY, Phase, Stamp


def why(text):
    at = datetime(2026, 1, 2, tzinfo=UTC)
    stamp = Stamp(epoch=1, release="run@1", step="watch", phase=Phase.RESTORED, at=at, why=text)
    return stamp.as_fields()["why"]


@pytest.mark.parametrize("length", [1, LONGEST_WHY])
def test_a_reason_that_fits_stays_whole(length):
    assert why("x" * length) == "x" * length


def test_a_longer_one_is_cut_where_one_can_see_it():
    cut = why("x" * (LONGEST_WHY + 1))
    assert len(cut) == LONGEST_WHY
    assert cut.endswith("x...")


def test_a_reason_is_one_line():
    assert why(" two\n lines ") == "two lines"
    assert why(" ") == "-"
