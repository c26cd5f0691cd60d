"""Sessions in real Redis, in real Memcached and in signed cookies, behind real HAProxy and nginx: kept, or refused in time."""

from __future__ import annotations

from contextlib import ExitStack
from datetime import timedelta

import pytest

from bluegreen.core.errors import CheckFailed
from bluegreen.release.restore import restore
from bluegreen.release.sessions import sessions_before, sessions_shifted
from bluegreen.release.shift import shift
from tests.rigs.session_rig import SESSIONS, login, missing, session_shop, stores

pytestmark = [pytest.mark.haproxy, pytest.mark.nginx]


@pytest.fixture
def shop(monkeypatch):
    # Which color answers is drawn, at 90/10 a hundred times and more: on a busy machine not in the time of a release.
    monkeypatch.setattr("bluegreen.release.sessions.WITHIN", timedelta(minutes=2))
    with ExitStack() as stack:

        def start(blue, green="", kind="haproxy", **more):
            if reason := missing(blue.partition(":")[0]):
                pytest.skip(reason)
            more["release"] = {"lease": "12m"}
            words = stack.enter_context(stores(*([blue, green] if green else [blue])))
            return stack.enter_context(session_shop(kind, {"blue": words[0], "green": words[-1]}, **more))

        yield start


def before(one):
    return sessions_before(one.ports, one.plan, login)


def shifted(one, share=10, step="canary_1"):
    shift(one.ports, one.plan, step, share, one.plan.epoch)
    return sessions_shifted(one.ports, one.plan, share, login)


def split(one):
    return str(one.ports.router.read().split)


@pytest.mark.parametrize(
    ("store", "kind"),
    [("redis", "haproxy"), ("redis", "nginx"), ("memcached", "haproxy"), ("signed:one secret for both", "haproxy")],
)
def test_what_both_colors_share_is_kept_both_ways_before_and_under_traffic(shop, store, kind):
    one = shop(store, kind=kind)
    assert [crossing.kept for crossing in before(one).crossings] == [True, True]
    found = shifted(one)
    assert [(c.made[0], c.used[0], c.kept) for c in found.crossings] == [
        ("blue", "green", True),
        ("green", "blue", True),
    ]
    assert (found.warnings, split(one)) == ((), "90/10")


def test_after_a_full_switch_without_a_canary_the_old_color_is_asked_past_the_router(shop):
    one = shop("redis")
    found = shifted(one, 100, "switch")
    assert [crossing.kept for crossing in found.crossings] == [True, True]
    assert found.crossings[0].line.startswith("a session made on blue (at http://127.0.0.1:")


@pytest.mark.parametrize(
    ("blue", "green"),
    [
        ("redis", "redis"),
        ("memcached", "memcached"),
        ("signed:old secret", "signed:new secret"),
        ("memory:", "memory:"),
    ],
)
def test_what_is_lost_is_refused_before_anything_moved(shop, blue, green):
    one = shop(blue, green)
    lost = (
        r"made on blue \(through lb1\) is lost on green .* found 401: no session \*\*\* here; a session made on green"
    )
    with pytest.raises(CheckFailed, match=lost) as error:
        before(one)
    assert "nothing was moved" in error.value.next_step
    assert split(one) == "100/0"


def test_what_is_allowed_is_warned_of(shop):
    one = shop("signed:old", "signed:new", sessions=SESSIONS | {"lost": "allow", "reason": "the secret leaked"})
    assert [line.endswith("; allowed: the secret leaked") for line in before(one).warnings] == [True, True]
    assert [line.endswith("; allowed: the secret leaked") for line in shifted(one).warnings] == [True, True]


@pytest.mark.parametrize("kind", ["haproxy", "nginx"])
def test_what_is_lost_under_traffic_ends_in_the_way_back(shop, kind):
    one = shop("signed:old", "signed:new", kind=kind)
    with pytest.raises(CheckFailed, match=r"is lost on .* the traffic is put back"):
        shifted(one)
    assert split(one) == "90/10"
    restore(one.ports, "sessions were lost", "tests")
    assert split(one) == "100/0"


@pytest.mark.parametrize("cookie", ["client", "sid"])
def test_a_router_that_keeps_clients_is_tried_with_many(shop, cookie):
    """The cookie that it knows clients by may be another one, or the session's own."""
    one = shop("redis", kind="nginx", router={"sticky": {"cookie": cookie}})
    found = shifted(one)
    assert [(c.made[0], c.used[0], c.kept) for c in found.crossings] == [
        ("blue", "green", True),
        ("green", "blue", True),
    ]
