"""Weights of two colors in objects as people write them."""

from __future__ import annotations

import pytest

from bluegreen.core.colors import Color, Split
from bluegreen.routers.kube_weights import Destinations, edits, routed

BLUE, GREEN = Color.BLUE, Color.GREEN


def web(*weights: int, colors=(BLUE, GREEN), says="route web", pinned=False):
    return Destinations(says, "/spec/http/0/route", colors, weights, pinned)


@pytest.mark.parametrize(
    ("weights", "split"),
    [((90, 10), Split(90, 10)), ((1, 1), Split(50, 50)), ((2, 1), Split(67, 33)), ((100, 0), Split(100, 0)),
     ((999, 1), Split(99, 1)), ((0, 7), Split(0, 100)), ((0, 0), None)],
)  # fmt: skip
def test_a_split_of_weights(weights, split):
    assert web(*weights).split == split


def test_what_is_no_split_says_why():
    assert routed([], "none") == routed([], "none")
    assert routed([], "no route carries both").why == "no route carries both"
    assert routed([web(0, 0)], "").why == "route web has weights 0/0"
    assert (
        routed([web(90, 10), web(80, 20, says="route api")], "").why == "they differ: route web 90/10, route api 80/20"
    )
    assert routed([web(1, colors=(BLUE,))], "").why == "route web does not carry both colors"
    assert routed([web(1, 1, 1, colors=(BLUE, GREEN, None))], "").split is None


def test_only_weights_that_differ_are_written():
    assert list(edits([web(9, 1)], Split(90, 10))) == []
    assert list(edits([web(100, 0, colors=(GREEN, BLUE))], Split(90, 10))) == [
        {"op": "add", "path": "/spec/http/0/route/0/weight", "value": 10},
        {"op": "add", "path": "/spec/http/0/route/1/weight", "value": 90},
    ]


@pytest.mark.parametrize(
    ("colors", "says"),
    [((GREEN,), "sends all its requests to green,"), ((BLUE, BLUE), "sends all its requests to blue,"),
     ((BLUE, None), "sends its requests to blue, another,"), ((BLUE, GREEN, None), "sends its requests to blue, green, another,"),
     ((BLUE, GREEN, BLUE), "sends its requests to blue, green, blue,")],
)  # fmt: skip
def test_requests_that_no_shift_moves(colors, says):
    assert says in web(*(1 for _ in colors), colors=colors).stays


@pytest.mark.parametrize("colors", [(BLUE, GREEN), (GREEN, BLUE), (None,), (None, None), ()])
def test_requests_that_every_shift_moves_or_that_are_none_of_ours(colors):
    assert web(*(1 for _ in colors), colors=colors).stays == ""


def test_testers_stay_on_one_color_and_on_no_mixture():
    assert web(1, colors=(GREEN,), pinned=True).stays == ""
    assert web(1, 1, 1, colors=(BLUE, GREEN, BLUE), pinned=True).stays
