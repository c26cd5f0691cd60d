"""Which shares pods can make, by an account of one's own."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bluegreen.core.colors import Color, Split
from bluegreen.core.errors import UnsupportedSplit
from bluegreen.routers.kube_sizes import Sizes, full_size, share_of


@pytest.mark.parametrize(
    ("live", "share", "pods"),
    [(9, 10, 1), (10, 10, 1), (9, 50, 9), (9, 25, 3), (3, 25, 1), (3, 10, None), (9, 1, None), (9, 99, None), (1, 50, 1), (0, 50, None)],
)  # fmt: skip
def test_the_pods_of_a_share(live: int, share: int, pods: int | None) -> None:
    assert Sizes(live, max(live, 1)).pods_for(share) == pods


@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 99))
def test_what_is_given_comes_close_and_what_is_refused_does_not(live: int, full: int, share: int) -> None:
    pods = Sizes(live, full).pods_for(share)
    errors = {n: abs(Fraction(100 * n, live + n) - share) for n in range(1, full + 1)}
    if pods is None:
        assert min(errors.values()) > 1
    else:
        assert errors[pods] <= 1


@given(st.integers(1, 500), st.integers(1, 500))
def test_a_share_of_some_is_never_all_or_nothing(pods: int, others: int) -> None:
    assert 1 <= share_of(pods, others) <= 99
    assert share_of(0, others) == 0
    assert share_of(pods, 0) == 100


@pytest.mark.parametrize(
    ("now", "noted", "full"),
    [(9, None, 9), (1, (9, 9, 1), 9), (9, (9, 9, 1), 9), (1, (9, 1, 3), 9), (3, (9, 1, 3), 9), (5, (9, 1, 3), 5), (0, (9, 9, 1), 0)],
)  # fmt: skip
def test_a_size_that_nobody_but_us_gave_is_no_full_size(now: int, noted: tuple[int, ...] | None, full: int) -> None:
    assert full_size(Color.GREEN, now, {Color.GREEN: noted} if noted else {}) == full
    assert full_size(Color.BLUE, now, {Color.GREEN: noted} if noted else {}) == now


def test_a_share_that_cannot_be_made_is_refused_with_those_that_can() -> None:
    assert Sizes(9, 9).step == 10
    assert Sizes(9, 0).step == 100
    with pytest.raises(UnsupportedSplit) as caught:
        Sizes(3, 3).need("shop", "eu", Split(90, 10), Color.GREEN)
    assert str(caught.value) == (
        "shop: eu: wanted 90/10: beside 3 pods of blue, up to 3 of green make 25, 40, 50 %; nothing was moved; "
        "give release.canary such shares, or use a router with weights: istio, gateway_api"
    )
