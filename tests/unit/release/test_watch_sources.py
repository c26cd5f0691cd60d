"""
A watch whose rules are held against a source that counts: a real HTTP endpoint, and the memory router, in real time.

What the source does not tell is missing data, by name; what it tells decides, in a canary and after the full switch.
"""

from __future__ import annotations

import json
import time
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from urllib.parse import parse_qs, urlsplit

import pytest

from bluegreen.analysis.counted import CountedUntil
from bluegreen.analysis.registry import make_count_sources
from bluegreen.analysis.replay import replay
from bluegreen.analysis.series import Counted
from bluegreen.catalog.models import Service
from bluegreen.core.colors import Color
from bluegreen.core.errors import ReleaseRefused
from bluegreen.release.adopt import adopt
from bluegreen.release.evidence import uncounted
from bluegreen.release.plan import plan
from tests.rigs.deploy_targets import Reply, Site, keys
from tests.unit.release.test_watch import RealTime, canary, run
from tests.unit.release.world import SERVICE, World, request

SEQUENTIAL = {"type": "sequential", "source": "stats"}
THRESHOLD = {
    "type": "threshold",
    "metric": "error_rate",
    "max": 5,
    "min_requests": 5,
    "window": "1s",
    "source": "stats",
}


@dataclass
class Told:
    """What the endpoint says: errors of each 100 requests a color, at so many requests a second."""

    green: float = 0.0
    blue: float = 0.0
    rate: float = 500.0
    requests: bool = True
    instead: Reply | None = None

    def __call__(self, asked):
        if self.instead:
            return self.instead
        query = {key: value[0] for key, value in parse_qs(urlsplit(asked.path).query).items()}
        seconds = max(0.0, float(query["until"]) - float(query["since"]))
        requests = int(seconds * self.rate)
        errors = int(requests * getattr(self, query["color"]) / 100)
        return Reply(body=json.dumps({"requests": requests, "errors": errors}))


@contextmanager
def watching(told, *rules, lasts=1.5, before=None, **source):
    """A canary, or with ``before`` a full switch, under a watch by rules of this endpoint."""
    with Site(told) as site:
        section = {
            "type": "http",
            "name": "stats",
            "url": f"{site.url}/counts?color=$color&since=$since&until=$until",
            "interval": "100ms",
        } | source
        frozen = SERVICE.frozen()
        release = frozen["release"] | {"rules": list(rules)}
        service = Service.model_validate(frozen | {"sources": [section], "release": release})
        world = RealTime()
        ports, spec = canary(world, service, lasts)
        if before:
            spec = spec.model_copy(update=before(spec))
        yield world, replace(ports, counting=make_count_sources(service, keys())), spec, site


def switched(spec):
    return {"past": Counted(5000, 10), "past_since": spec.since.replace(year=spec.since.year - 1)}


@pytest.mark.parametrize("rule", [SEQUENTIAL, THRESHOLD])
@pytest.mark.parametrize(("green", "says"), [(0, "healthy"), (30, "unhealthy")])
def test_its_counts_decide_in_a_canary(rule, green, says):
    with watching(Told(green=green), rule) as (world, ports, spec, _):
        end = run(ports, spec)
    assert (end.says, " by stats" in end.reason) == (says, True), end
    assert world.splits() == {"100/0"} if says == "unhealthy" else {"90/10"}


@pytest.mark.parametrize(("green", "says"), [(0, "healthy"), (30, "unhealthy")])
def test_its_counts_of_the_time_before_decide_after_the_switch(green, says):
    with watching(Told(green=green), SEQUENTIAL, before=switched) as (_, ports, spec, site):
        end = run(ports, spec)
    assert (end.says, "of " in end.reason and "before" in end.reason) == (says, True), end
    old = [asked for asked in site.asked if "color=blue" in asked.path]
    assert len(old) == 1, "the past is asked for once, and the old color never again"
    assert f"since={int(spec.past_since.timestamp())}" in old[0].path


def test_the_router_is_not_asked_in_its_place():
    """The router sees nothing but errors, the source none: the rule is the source's."""
    with watching(Told(), SEQUENTIAL) as (world, ports, spec, _):
        world.errors[Color.GREEN] = 1.0
        assert run(ports, spec).says == "healthy"


def test_it_is_asked_at_most_once_a_color_and_interval():
    with watching(Told(), SEQUENTIAL, THRESHOLD) as (_, ports, spec, site):
        began = time.monotonic()
        run(ports, spec)
        intervals = (time.monotonic() - began) / 0.1
    for color in Color:
        assert 2 <= len([a for a in site.asked if f"color={color}" in a.path]) <= intervals + 1


@pytest.mark.parametrize(
    ("instead", "sentence"),
    [
        (Reply(status=503, body="busy"), "HTTP 503"),
        (Reply(body='{"requests": "NaN", "errors": 0}'), "requests are nan"),
        (Reply(body='{"requests": 1e999, "errors": 0}'), "requests are inf"),
        (Reply(body="{}"), "empty: nothing of this color was counted"),
        (Reply(cut=True), "gives no answer"),
    ],
)
@pytest.mark.parametrize(("no_data", "says"), [("hold", "unhealthy"), ("fail", "unhealthy"), ("ignore", "healthy")])
def test_what_is_no_count_is_missing_data_by_name(instead, sentence, no_data, says):
    with watching(Told(instead=instead), SEQUENTIAL | {"no_data": no_data}, lasts=3.0) as (_, ports, spec, _):
        end = run(ports, spec)
    rule = end.verdict["numbers"]["rules"][1]
    assert sentence in rule["text"], rule
    assert " by stats" in rule["text"], rule
    assert end.says == says
    assert rule["state"] == {"hold": "no data", "fail": "broken", "ignore": "kept"}[no_data]


def test_counts_that_shrink_contradict_themselves():
    class Shrinks(Told):
        def __call__(self, asked):
            self.rate = max(1.0, self.rate * 0.5)
            return super().__call__(asked)

    with watching(Shrinks(), SEQUENTIAL) as (_, ports, spec, _):
        end = run(ports, spec)
    assert "it contradicts itself" in end.verdict["numbers"]["rules"][1]["text"]
    assert end.says == "unhealthy"  # too little evidence, and nobody is asked in this service


class Lines:
    """A source that counts lines of errors only, as logs do."""

    interval = timedelta(milliseconds=100)

    def __init__(self, errors):
        self.errors = errors

    @asynccontextmanager
    async def opened(self):
        async def count(color, since, until):
            return CountedUntil(None, self.errors[color], until)

        yield count


@pytest.mark.parametrize(("errors", "says"), [(0, "healthy"), (40, "unhealthy")])
def test_lines_of_errors_are_held_against_the_routers_requests(errors, says):
    with watching(Told(), SEQUENTIAL) as (_, ports, spec, _):
        there = replace(ports, counting={"stats": Lines({Color.GREEN: errors, Color.BLUE: 0})})
        end = run(there, spec)
    assert end.says == says
    requests = end.verdict["numbers"]["rules"][1]["requests"]
    assert 0 < requests <= end.verdict["numbers"]["colors"]["green"]["requests"]
    assert end.verdict["numbers"]["sources"]["stats"]["green"]["errors"] == end.verdict["numbers"]["rules"][1]["errors"]


def test_a_replay_gives_the_same_verdict():
    with watching(Told(green=3, blue=2.9), SEQUENTIAL, {"type": "threshold", "metric": "error_rate", "max": 50}) as (
        _,
        ports,
        spec,
        _,
    ):
        end = run(ports, spec)
    numbers = json.loads(json.dumps(end.verdict["numbers"]))
    again, _ = replay(numbers["evidence"], numbers["rules"])
    assert (again.says, again.reason) == (end.says, end.reason)
    broken = numbers["evidence"]["sources"]["stats"]
    column = 5 if spec.color is Color.GREEN else 2
    broken["rows"] = [[*row[:column], row[column - 1], *row[column + 1 :]] for row in broken["rows"]]
    assert replay(numbers["evidence"], numbers["rules"])[0].says == "unhealthy"


def test_a_question_that_is_not_understood_refuses_the_release():
    with watching(Told(instead=Reply(status=400, body="what?")), SEQUENTIAL) as (_, ports, spec, _):
        world = World()
        there = replace(world.ports(spec.service), counting=ports.counting)
        adopt(there, "tests", "begin", "1")
        with pytest.raises(ReleaseRefused, match="'stats' is not understood"):
            plan(there, request())


class Silent:
    """A router that does not count."""

    def __init__(self, router):
        self._router = router

    def __getattr__(self, name):
        if name == "counters":
            raise AttributeError(name)
        return getattr(self._router, name)


def planned(service):
    there = World().ports(service)
    adopt(there, "tests", "begin", "1")
    there = replace(there, router=Silent(there.router))
    return uncounted(there), lambda: plan(there, request())


LINES = {
    "type": "loki",
    "name": "stats",
    "url": "http://loki.test",
    "lines": '{color="$color"}',
    "errors": "|= error",
}


@pytest.mark.parametrize(
    ("rule", "sources"), [({"type": "sequential"}, []), (SEQUENTIAL, [LINES])], ids=["router", "lines of errors only"]
)
def test_a_rule_that_nobody_counts_for_refuses_the_release_and_is_found_by_check(rule, sources):
    whole = SERVICE.model_dump(mode="json", exclude_unset=True)
    service = Service.model_validate(whole | {"sources": sources, "release": {"rules": [rule]}})
    says, begin = planned(service)
    assert [found.source for found in says] == [rule.get("source", "router")]
    with pytest.raises(
        ReleaseRefused, match=r"counts no requests, and nobody else .* for error_rate.* by sequential test"
    ):
        begin()


@pytest.mark.parametrize(
    ("rule", "sources"),
    [({"type": "sequential", "no_data": "ignore"}, []), (SEQUENTIAL, [LINES | {"requests": "|= request"}])],
    ids=["ignored", "a source that counts both"],
)
def test_a_rule_that_somebody_counts_for_is_let_by(rule, sources):
    whole = SERVICE.model_dump(mode="json", exclude_unset=True)
    says, _ = planned(Service.model_validate(whole | {"sources": sources, "release": {"rules": [rule]}}))
    assert says == []


def test_a_source_that_no_rule_reads_is_never_asked():
    with watching(Told(), {"type": "sequential"}) as (_, ports, spec, site):
        run(ports, spec)
    assert site.asked == []
