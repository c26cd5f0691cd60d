"""What a stamp leaves in a router."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from bluegreen.core.stamp import LONGEST_WHY, Phase, Stamp


def why(text):
    at = datetime(2026, 1, 2, tzinfo=UTC)
    stamp = Stamp(epoch=1, release="run@1", step="watch", phase=Phase.RESTORED, at=at, why=text)
    return stamp.as_fields()["why"]


@pytest.mark.parametrize("lease", ["2026-01-02T03:04:05", "tomorrow"])
def test_a_lease_that_cannot_be_held_against_a_clock_is_no_stamp(lease):
    at = datetime(2026, 1, 2, tzinfo=UTC)
    fields = Stamp(epoch=1, release="run@1", step="canary", phase=Phase.CANARY, lease=at).as_fields()
    assert Stamp.from_fields(fields).lease == at
    with pytest.raises(ValueError, match=lease):
        Stamp.from_fields(fields | {"lease": lease})


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
