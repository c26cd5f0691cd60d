"""Sessions over a router in memory: which way they are tried, what is refused, and what nobody must ever read."""

from __future__ import annotations

import json
import random
from contextlib import ExitStack
from dataclasses import replace
from datetime import timedelta

import pytest

from bluegreen.catalog.models import Service
from bluegreen.core.colors import Color
from bluegreen.core.errors import CheckFailed, TrafficConflict
from bluegreen.core.ports import Credentials
from bluegreen.release.adopt import adopt
from bluegreen.release.plan import plan
from bluegreen.release.restore import restore
from bluegreen.release.sessions import sessions_before, sessions_shifted
from bluegreen.release.shift import shift
from tests.rigs.deploy_targets import Reply, Site
from tests.rigs.session_app import PASSWORD, USER, App, Memory, Signed
from tests.unit.release.world import SERVICE, World, request

JSON = {
    "path": "/login",
    "headers": {"Content-Type": "application/json"},
    "body": '{"user": "$login", "password": "$password"}',
    "connection": "tester",
}
TOKEN = JSON | {"bearer": {"find": "access_token"}}
FORM = JSON | {
    "headers": {"Content-Type": "application/x-www-form-urlencoded"},
    "body": "user=$login&password=$password",
}
USE = {"path": "/me", "json": {"user": USER}}


def login(_):
    return Credentials(USER, PASSWORD)


class Shop:
    """Two colors of one app, an entry that draws by the memory router's split, and a release that is planned."""

    def __init__(self, stack, blue, green, create=JSON, **more):
        self.apps = {Color.BLUE: App(blue), Color.GREEN: App(green, "2")}
        sites = {color: stack.enter_context(Site(self._of(color))) for color in Color}
        self.entry = stack.enter_context(Site(self._entry))
        self.green, self.world, self.mangles, self.serves = sites[Color.GREEN], World(), lambda reply: reply, None
        sessions = {"create": create, "use": USE} | more.pop("sessions", {})
        router = SERVICE.frozen()["router"]
        router["nodes"][0]["entry"] = self.entry.address
        told = {
            "router": router,
            "colors": {color: {"targets": [site.url]} for color, site in sites.items()},
            "sessions": sessions,
        }
        self.ports = self.world.ports(Service.model_validate(SERVICE.frozen() | told | more))
        adopt(self.ports, "tests", "begin", "1")
        self.plan = plan(self.ports, request())
        self.world.runs[Color.GREEN] = "2"

    def _of(self, color):
        def reply(asked):
            status, headers, body = self.apps[color].answer(asked.path, asked.headers, asked.body)
            return self.mangles(Reply(status, headers, body))

        return reply

    def _entry(self, asked):
        color = self.serves or (Color.GREEN if random.random() * 100 < self.world.nodes[0].split.green else Color.BLUE)
        reply = self._of(color)(asked)
        return replace(reply, headers={**reply.headers, "X-Release-Color": str(color)})

    def before(self):
        return sessions_before(self.ports, self.plan, login)

    def shifted(self, share):
        step = "switch" if share == 100 else "canary_1"
        shift(self.ports, self.plan, step, share, self.plan.epoch)
        return sessions_shifted(self.ports, self.plan, share, login)

    @property
    def said(self):
        return "\n".join(self.world.said)


@pytest.fixture
def shop():
    with ExitStack() as stack:
        yield lambda *stores, **more: Shop(stack, *stores, **more)


def shared():
    store = Memory()
    return store, store


@pytest.mark.parametrize("create", [JSON, FORM, TOKEN], ids=["cookie", "form", "token"])
def test_both_ways_are_tried_and_no_secret_is_said(shop, create):
    one = shop(*shared(), create=create)
    kept = one.before()
    lines = kept.as_json()["sessions"]
    assert [line.partition(": ")[0] for line in lines] == [
        f"a session made on blue (through one) is kept on green (at {one.green.url})",
        f"a session made on green (at {one.green.url}) is kept on blue (through one)",
    ]
    assert kept.warnings == ()
    secrets = [*one.apps[Color.BLUE].store.users, PASSWORD]
    assert len(secrets) == 3
    assert not [word for word in secrets if word in one.said + json.dumps(kept.as_json())]
    assert one.green.asked[-1].headers["Host"] == "shop.test"  # as behind the router


def test_a_token_goes_in_its_header_and_no_cookie_is_needed(shop):
    one = shop(*shared(), create=TOKEN)
    one.mangles = lambda reply: Reply(reply.status, {}, reply.body)
    assert [crossing.kept for crossing in one.before().crossings] == [True, True]
    sent = [asked.headers["Authorization"] for asked in one.green.asked if asked.path == "/me"]
    assert sent[0].startswith("Bearer ")


def test_a_lost_token_is_not_shown(shop):
    one = shop(Memory(), Memory(), create=TOKEN)
    one.mangles = lambda reply: Reply(reply.status, {}, reply.body)
    with pytest.raises(CheckFailed, match=r"no session \*\*\* here") as error:
        one.before()
    keys = [key for app in one.apps.values() for key in app.store.users]
    assert not [key for key in keys if key in str(error.value) + one.said]


def test_a_session_that_its_own_color_loses_is_lost(shop):
    """As where each process keeps its own, and a color has two."""
    one = shop(*shared())
    one.serves = Color.BLUE
    one.apps[Color.BLUE].store.user = lambda _: None
    with pytest.raises(CheckFailed, match=r"made on blue \(through one\) is lost on blue \(through one\)"):
        one.shifted(10)


class Inherits(Memory):
    """Knows the sessions of another store too: the new version understands the old one's, and not the other way."""

    def __init__(self, other):
        super().__init__()
        self.other = other

    def user(self, key):
        return super().user(key) or self.other.user(key)


def stores(lost):
    old = Memory()
    return {"forward": (old, Memory()), "back": (old, Inherits(old)), "signature": (Signed("a"), Signed("b"))}[lost]


@pytest.mark.parametrize(
    ("lost", "says"),
    [
        ("forward", r"made on blue \(through one\) is lost on green \(at http.*\): expected status 200, found 401: no session \*\*\*"),
        ("back", r"^shop: sessions: a session made on green \(at http.*\) is lost on blue \(through one\): expected status 200"),
        ("signature", r"is lost on green .*; a session made on green .* is lost on blue"),
    ],
)  # fmt: skip
def test_a_lost_session_is_refused_before_anything_moves(shop, lost, says):
    one = shop(*stores(lost))
    with pytest.raises(CheckFailed, match=says) as error:
        one.before()
    assert "nothing was moved; give both colors one session store" in str(error.value)
    assert one.world.splits() == {"100/0"}
    keys = [key for app in one.apps.values() for key in getattr(app.store, "users", {})]
    assert not [key for key in keys if key in str(error.value) + one.said]


def test_what_may_be_lost_is_a_warning(shop):
    one = shop(*stores("back"), sessions={"lost": "allow", "reason": "the new login logs out once"})
    (warning,) = one.before().as_json()["warnings"]
    assert warning.startswith("a session made on green")
    assert warning.endswith("allowed: the new login logs out once")
    assert f"warning: {warning}" in one.world.said


def test_a_use_that_needs_no_session_is_refused_as_it_proves_nothing(shop):
    one = shop(*stores("forward"), sessions={"use": {"path": "/health"}})
    with pytest.raises(CheckFailed, match=r"sessions.use passes without a session as well \(status 200\)"):
        one.before()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"body": '{"user": "no $login", "password": "$password"}'}, r"made through one: expected status 200, found 403: no such user"),
        ({"bearer": {"find": "nowhere"}}, r"status 200, but no token at nowhere in its JSON"),
        ({"path": "/health"}, r"status 200 without a cookie; where a token carries it give bearer"),
    ],
)  # fmt: skip
def test_a_login_that_makes_no_session_is_told_without_its_password(shop, changes, says):
    one = shop(*shared(), create=JSON | changes)
    with pytest.raises(CheckFailed, match=says) as error:
        one.before()
    assert PASSWORD not in str(error.value)
    assert 'p\\"ss' not in str(error.value)  # nor as JSON writes it
    assert "sessions.create" in error.value.next_step


def test_another_color_than_the_live_one_at_the_entry_is_an_error(shop):
    one = shop(*shared())
    one.serves = Color.GREEN
    with pytest.raises(CheckFailed, match="expected an answer of blue, found green"):
        one.before()


def test_a_session_gets_another_key_with_each_use(shop):
    """As frameworks do that let a session's key turn over."""
    one = shop(*shared())
    users = one.apps[Color.BLUE].store.users

    def turn(reply):
        if reply.status == 200 and "user" in reply.body:
            users.clear()
            users["another-key-of-it"] = USER
            return Reply(200, {"Set-Cookie": "sid=another-key-of-it"}, reply.body)
        return reply

    one.mangles = turn
    assert [crossing.kept for crossing in one.shifted(10).crossings] == [True, True]
    assert "another-key" not in one.said


@pytest.mark.parametrize("share", [10, 50, 100])
def test_while_both_have_traffic_sessions_go_through_the_entry(shop, share):
    one = shop(*shared())
    found = one.shifted(share).crossings
    assert [(c.made[0], c.used[0], c.kept) for c in found] == [("blue", "green", True), ("green", "blue", True)]


@pytest.mark.parametrize("share", [10, 100])
@pytest.mark.parametrize("lost", ["forward", "back"])
def test_a_session_that_is_lost_under_traffic_ends_the_release(shop, share, lost):
    one = shop(*stores(lost))
    with pytest.raises(CheckFailed, match=r"is lost on .*the traffic is put back"):
        one.shifted(share)
    restore(one.ports, "lost", "tests")
    assert one.world.splits() == {"100/0"}


def test_a_color_that_never_answers_is_told_and_refuses_nothing(shop):
    one = shop(*shared())
    one.serves = Color.BLUE
    kept = one.shifted(10)
    assert [crossing.kept for crossing in kept.crossings] == [None, None]
    assert "green answered none of 132 requests" in kept.warnings[0]
    assert "was not tried on blue (through one): green answered none of 132 requests that make one" in kept.warnings[1]


def test_it_takes_a_part_of_the_lease_at_most_and_leaves_it_whole(shop):
    one = shop(*shared(), release=SERVICE.frozen()["release"] | {"lease": "3s"})
    one.mangles = lambda reply: replace(reply, hang=0.3)
    shift(one.ports, one.plan, "canary_1", 10, one.plan.epoch)
    one.world.time += timedelta(seconds=2)
    kept = sessions_shifted(one.ports, one.plan, 10, login)
    assert kept.crossings[-1].kept is None
    assert "out of time after 0.5 s" in kept.crossings[-1].says
    assert one.world.nodes[0].stamp.lease == one.world.time + timedelta(seconds=3)


def test_a_release_that_does_not_hold_the_service_tries_nothing(shop):
    one = shop(*shared())
    for node in one.world.nodes:
        node.stamp = None
    with pytest.raises(TrafficConflict, match="does not hold the service"):
        one.before()
    assert one.entry.asked == []
