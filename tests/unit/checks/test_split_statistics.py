"""The statistics of a proof, apart from any request."""

from __future__ import annotations

import random
from bisect import bisect_left

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bluegreen.checks.proof import FIRST_ALPHA, SECOND_ALPHA, answers_needed, holds, tails
from bluegreen.core.colors import Color, Split

SHARES = st.integers(1, 99)


def counts(blue: int, total: int) -> dict[Color, int]:
    return {Color.BLUE: blue, Color.GREEN: total - blue}


def refused(wanted: int, true: float, alpha: float, total: int) -> float:
    """The exact probability that a sample of a true share lies outside of a wanted one's interval."""
    split, middle = Split.giving(Color.BLUE, wanted), round(total * wanted / 100)

    def outside(blue: int) -> bool:
        return not holds(split, counts(blue, total), alpha)

    least = bisect_left(range(middle), True, key=lambda blue: not outside(blue))
    most = middle + bisect_left(range(middle, total + 1), True, key=outside) - 1
    below, above = (tails(least - 1, total, true)[0] if least else 0), tails(min(most + 1, total), total, true)[1]
    return below + (above if most < total else 0)


def refused_twice(wanted: int, true: float) -> float:
    first = answers_needed(Split.giving(Color.BLUE, wanted))
    return refused(wanted, true, FIRST_ALPHA, first) * refused(wanted, true, SECOND_ALPHA, 2 * first)


@given(st.sampled_from(Color), st.integers(50, 400))
def test_a_whole_split_holds_without_exception(color, total):
    assert holds(Split.whole_on(color), {color: total})
    assert not holds(Split.whole_on(color), {color: total, color.other: 1})
    assert not holds(Split.whole_on(color), {color.other: total})


@pytest.mark.parametrize(("blue", "needed"), [(100, 50), (0, 50), (90, 300), (10, 300), (5, 300), (2, 750), (1, 1500)])
def test_a_small_share_needs_more_answers(blue, needed):
    split = Split(blue, 100 - blue)
    assert answers_needed(split) == needed
    share = round(needed * blue / 100)
    assert holds(split, counts(share, needed))
    assert not holds(split, counts(share, needed)) or not holds(split, counts(max(0, share - 1), needed - 1))


@given(SHARES)
def test_none_of_a_color_that_has_a_share_is_refused(share):
    split = Split(share, 100 - share)
    assert not holds(split, counts(0, answers_needed(split)))
    assert not holds(split, counts(answers_needed(split), answers_needed(split)))


@given(SHARES)
def test_the_expected_counts_hold(share):
    split, total = Split(share, 100 - share), answers_needed(Split(share, 100 - share))
    assert holds(split, counts(round(total * share / 100), total), SECOND_ALPHA)


@given(SHARES, st.integers(0, 300))
def test_both_colors_are_treated_alike(share, blue):
    one = holds(Split(share, 100 - share), counts(blue, 300))
    other = holds(Split(100 - share, share), counts(300 - blue, 300))
    assert one == other


@settings(derandomize=True)  # one in a million of them is refused
@given(SHARES, st.integers(0, 2**32))
def test_a_true_split_is_accepted(share, seed):
    rng = random.Random(seed)
    split = Split(share, 100 - share)

    def sample(total: int) -> dict[Color, int]:
        return counts(sum(rng.random() < share / 100 for _ in range(total)), total)

    first = answers_needed(split)
    assert holds(split, sample(first), FIRST_ALPHA) or holds(split, sample(2 * first), SECOND_ALPHA)


@pytest.mark.parametrize("share", [1, 2, 5, 10, 20, 25, 33, 50])
def test_a_true_split_is_refused_less_than_once_in_a_million(share):
    assert refused_twice(share, share / 100) < 1e-6


@pytest.mark.parametrize(
    ("wanted", "true", "at_least"),
    [
        (10, 0.20, 0.98),
        (10, 0.25, 0.999),
        (25, 0.50, 0.999),
        (50, 0.40, 0.65),
        (5, 0.10, 0.65),
        (90, 0.80, 0.98),
        (10, 0.01, 0.999),
    ],
)
def test_another_split_is_refused(wanted, true, at_least):
    assert refused_twice(wanted, true) > at_least


def test_the_exact_rates_are_those_of_a_simulation():
    rng = random.Random(7)
    split, runs = Split(90, 10), 4000
    outside = sum(not holds(split, counts(300 - _hits(rng, 300, 0.13), 300)) for _ in range(runs))
    assert outside / runs == pytest.approx(refused(90, 0.87, FIRST_ALPHA, 300), abs=0.03)


def _hits(rng: random.Random, total: int, share: float) -> int:
    return sum(rng.random() < share for _ in range(total))


def test_tails_are_those_of_the_binomial_distribution():
    lower, upper = tails(2, 3, 0.5)
    assert lower == pytest.approx(7 / 8)
    assert upper == pytest.approx(4 / 8)


def test_tails_of_large_samples_do_not_overflow():
    lower, upper = tails(50, 5000, 0.01)
    assert lower + upper == pytest.approx(1, abs=0.1)
