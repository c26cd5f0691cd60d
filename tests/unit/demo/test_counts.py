"""What the demo's pods tell of their answers."""

from __future__ import annotations

import pytest

from demo.kubernetes import counts
from demo.kubernetes.counts import Counts


@pytest.fixture
def clock(monkeypatch):
    at = [1000.0]
    monkeypatch.setattr(counts.time, "time", lambda: at[0])
    return at


def test_answers_count_by_namespace_and_color_from_the_asked_moment_on(clock):
    told = Counts()
    told.add("shop", "blue", failed=True)
    clock[0] = 1001.05
    told.add("shop", "blue", failed=False)
    told.add("shop", "green", failed=True)
    told.add("pay", "blue", failed=True)
    both = {"at": 1001.05, "blue": {"requests": 1, "errors": 0}, "green": {"requests": 1, "errors": 1}}
    assert told.since("shop", 1000.5) == both
    assert told.since("shop", 0)["blue"] == {"requests": 2, "errors": 1}


def test_a_step_that_began_before_the_asked_moment_is_left_out(clock):
    told = Counts()
    told.add("shop", "blue", failed=False)
    assert told.since("shop", 1000.0)["blue"]["requests"] == 1
    assert told.since("shop", 1000.01)["blue"]["requests"] == 0


def test_a_color_that_answered_nothing_has_none():
    assert Counts().since("shop", 0)["green"] == {"requests": 0, "errors": 0}


def test_what_is_older_than_an_hour_of_answers_goes(clock, monkeypatch):
    monkeypatch.setattr(counts, "_KEPT", 2)
    told = Counts()
    for _ in range(3):
        told.add("shop", "blue", failed=False)
        clock[0] += 1
    assert told.since("shop", 0)["blue"]["requests"] == 2
