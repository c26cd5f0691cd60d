"""Counts: one question for both colors, what is told about one of them, and sources that cannot even begin."""

from __future__ import annotations

import asyncio
import builtins
import json
from datetime import timedelta

import pytest

from bluegreen.analysis.counted import count_until, counting
from bluegreen.core.colors import Color
from bluegreen.core.errors import CheckFailed, NoNumber, QueryRefused, SecretMissing, SecretPending
from bluegreen.core.ports import Credentials
from tests.rigs.deploy_targets import Reply
from tests.rigs.recorded_sources import SECRET, since_until
from tests.rigs.sources import HttpRig, ask, source_of

BLUE, GREEN = Color.BLUE, Color.GREEN
SINCE, UNTIL = since_until()
LATER = UNTIL + timedelta(seconds=10)


class Slow:
    """A source that answers when it is told to."""

    def __init__(self):
        self.asked, self.go = [], asyncio.Event()

    async def __call__(self, colors, since, until):
        self.asked.append((colors, until))
        await self.go.wait()
        return {color: count_until(100, 1, until) for color in colors}

    def opened(self, *, at_once=True):
        return counting(self, timedelta(minutes=1), str, at_once=at_once)


def run(work):
    return asyncio.run(asyncio.wait_for(work(), 5))


def test_both_colors_are_one_question_and_the_next_moment_another_one():
    async def work():
        slow = Slow()
        slow.go.set()
        async with slow.opened() as count:
            await asyncio.gather(count(BLUE, SINCE, UNTIL), count(GREEN, SINCE, UNTIL))
            await count(GREEN, SINCE, UNTIL)
            await count(GREEN, SINCE, LATER)
        return slow.asked

    assert run(work) == [((BLUE, GREEN), UNTIL), ((BLUE, GREEN), LATER)]


def test_a_kind_that_cannot_is_asked_for_each_color():
    async def work():
        slow = Slow()
        slow.go.set()
        async with slow.opened(at_once=False) as count:
            await asyncio.gather(count(BLUE, SINCE, UNTIL), count(GREEN, SINCE, UNTIL))
        return slow.asked

    assert run(work) == [((BLUE,), UNTIL), ((GREEN,), UNTIL)]


def test_who_gives_up_or_asks_for_later_takes_no_answer_from_another():
    async def work():
        slow = Slow()
        async with slow.opened() as count:
            gone, stays = (asyncio.create_task(count(color, SINCE, UNTIL)) for color in (BLUE, GREEN))
            later = asyncio.create_task(count(GREEN, SINCE, LATER))
            await asyncio.sleep(0)
            gone.cancel()
            await asyncio.sleep(0)
            slow.go.set()
            return (await stays).at, (await later).at

    assert run(work) == (UNTIL, LATER)


def test_nothing_goes_on_when_it_is_closed():
    async def work():
        slow = Slow()
        async with slow.opened() as count:
            waits = asyncio.create_task(count(BLUE, SINCE, UNTIL))
            await asyncio.sleep(0)
            waits.cancel()
        return len(asyncio.all_tasks())

    assert run(work) <= 2  # this one, and at most the one that was just cancelled


def test_a_connection_that_is_on_its_way_is_waited_for():
    with HttpRig("graphite") as rig:
        source, left = rig.source(), [1, 2]

        def secrets(name):
            if left:
                left.pop()
                raise SecretPending("on its way")
            return Credentials("watcher", SECRET)

        source._secrets = secrets
        assert ask(source, rig.since, rig.until, GREEN)[0].requests == 1000
        assert (left, len(rig.site.asked)) == ([], 1)


def told(kind, document, **more):
    """What a source says to an answer."""
    with HttpRig(kind) as rig:
        rig.instead = Reply(body=document if isinstance(document, str) else json.dumps(document))
        return rig.ask(GREEN, **more)[0]


def changed(kind, change):
    """What a source says to its usual answer with one thing changed."""
    with HttpRig(kind) as rig:
        document = json.loads(rig.api.answer(rig.words, rig.since, rig.until))
        change(document)
        rig.instead = Reply(body=json.dumps(document))
        return rig.ask(GREEN)[0]


@pytest.mark.parametrize(
    ("kind", "document", "error", "says"),
    [
        ("newrelic", {"errors": [{"message": "NRQL Syntax Error: Error at line 1"}]}, QueryRefused, "NRQL Syntax Error"),
        ("newrelic", {"errors": [{"message": "Your query has timed out"}], "data": {}}, NoNumber, "has timed out"),
        ("splunk", '{"messages": [{"type": "FATAL", "text": "Unknown search command"}]}', NoNumber, "Unknown search command"),
        ("datadog", {"errors": "rate limited"}, NoNumber, "rate limited"),
        ("influxdb", {"results": [{"statement_id": 0, "error": "timeout"}]}, NoNumber, "InfluxDB says timeout"),
        ("prometheus", {"data": {"resultType": "scalar", "result": [1, "1"]}}, NoNumber, "is a scalar, wanted a vector"),
        ("http", {"green": {"requests": 1, "errors": 0, "at": "now"}}, NoNumber, "at is 'now', wanted seconds"),
        ("http", {"green": {"requests": True, "errors": 0, "at": 1}}, NoNumber, "requests are True, wanted a number"),
    ],
)  # fmt: skip
def test_an_error_in_a_good_answer_is_no_count(kind, document, error, says):
    found = told(kind, document)
    assert (type(found), says in str(found)) == (error, True), found


def test_half_an_answer_is_none():
    found = changed("elasticsearch", lambda document: document["_shards"].update(failed=1))
    assert "incomplete: timed out, or 1 of the index's shards failed" in str(found)
    found = changed("elasticsearch", lambda document: document.update(timed_out=True))
    assert "incomplete" in str(found)
    found = changed("elasticsearch", lambda document: document["_shards"].update(total=0))
    assert "there is no such index" in str(found)


def test_half_an_answer_of_cloudwatch_is_none():
    pytest.importorskip("boto3", reason="boto3 is an extra, and not installed here")
    found = changed("cloudwatch", lambda document: document["MetricDataResults"][3].update(StatusCode="PartialData"))
    assert "incomplete: PartialData of green_errors" in str(found)
    assert "incomplete" in str(changed("cloudwatch", lambda document: document.update(NextToken="more")))


@pytest.mark.parametrize("kind", ["loki", "elasticsearch", "splunk"])
def test_log_lines_alone_count_no_requests(kind):
    with HttpRig(kind) as rig:
        found = ask(source_of(_without_requests(rig))[1], rig.since, rig.until, GREEN)[0]
    assert (found.requests, found.errors) == (None, 5)


def _without_requests(rig):
    section = {name: value for name, value in rig.api.section.items() if name != "requests"}
    return {"type": rig.kind, "url": rig.site.url, **section}


def test_no_line_at_all_is_no_good_news():
    def silent(document):
        for sample in document["data"]["result"]:
            if sample["metric"]["bluegreen"] == "green lines":
                sample["value"][1] = "0"

    assert "empty" in str(changed("loki", silent))


def test_errors_without_a_series_are_none():
    def without_errors(document):
        document[:] = [series for series in document if series["target"] != "green errors"]

    found = changed("graphite", without_errors)
    assert (found.requests, found.errors) == (1000, 0)


def test_an_address_that_names_the_color_is_asked_for_each():
    with HttpRig("http") as rig:
        rig.site.reply = lambda asked: Reply(body=json.dumps({"requests": 7, "errors": int("green" in asked.path)}))
        section = {"type": "http", "url": f"{rig.site.url}/$color?since=$since&until=$until"}
        found = ask(source_of(section)[1], rig.since, rig.until, BLUE, GREEN)
        assert sorted(asked.path.split("?")[0] for asked in rig.site.asked) == ["/blue", "/green"]
    assert [(one.requests, one.errors) for one in found] == [(7, 0), (7, 1)]


def test_a_path_that_is_no_jmespath_is_refused():
    found = told("http", {}, requests="$color.[")
    assert type(found) is QueryRefused


def opened(section, credentials=None):
    ask(source_of(section, credentials)[1], SINCE, UNTIL, GREEN)


DATADOG = {"type": "datadog", "connection": "c", "requests": "sum:a{env:$color}", "errors": "sum:b{env:$color}"}
SQL = {"type": "sql", "connection": "c", "query": "SELECT 1 AS requests WHERE :color = :since"}


def test_a_connection_that_lacks_something_is_told_by_name():
    with pytest.raises(SecretMissing, match=r"connection c: the connection's extra lacks app_key; write"):
        opened(DATADOG, Credentials(extra={"api_key": SECRET}))
    with pytest.raises(SecretMissing, match=r"connection c: its password is no SQLAlchemy URL; write") as error:
        opened(SQL, Credentials(password=SECRET))
    assert SECRET not in str(error.value)


def test_a_library_that_is_missing_is_told_by_name(monkeypatch):
    real = builtins.__import__

    def lacking(name, *more):
        if name.split(".")[0] in ("boto3", "psycopg"):
            raise ImportError(name, name=name)
        return real(name, *more)

    monkeypatch.setattr(builtins, "__import__", lacking)
    with pytest.raises(CheckFailed, match="source sql: psycopg is not installed; install"):
        opened(SQL, Credentials(password=f"postgresql+psycopg://me:{SECRET}@nowhere/x"))
    metric = {"namespace": "n", "metric": "m", "dimensions": {"c": "$color"}}
    with pytest.raises(CheckFailed, match="source cloudwatch: boto3 is not installed; install"):
        opened({"type": "cloudwatch", "region": "eu-west-1", "requests": metric, "errors": metric})
