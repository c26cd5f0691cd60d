"""What every source that counts does: right counts with their time, and no number made of what is none."""

from __future__ import annotations

import math

import pytest

from bluegreen.analysis.registry import COUNT_SOURCES
from bluegreen.core.colors import Color
from bluegreen.core.errors import NoNumber, QueryRefused, SecretMissing
from tests.rigs.deploy_targets import Reply
from tests.rigs.recorded_sources import SECRET, Says
from tests.rigs.sources import SOURCE_RIGS, closed_address, source_rig
from tests.rigs.sources import ask as ask_source

BLUE, GREEN = Color.BLUE, Color.GREEN
NONE = {
    "empty": ({"times": 0}, "empty"),
    "NaN": ({"requests": math.nan}, "requests are nan"),
    "Inf": ({"requests": math.inf}, "requests are inf"),
    "-Inf": ({"errors": -math.inf}, "errors are -inf"),
    "NaN errors": ({"errors": math.nan}, "errors are nan"),
    "negative": ({"requests": -1}, "requests are negative, -1"),
    "negative errors": ({"errors": -3}, "errors are negative, -3"),
    "stale": ({"age": 400}, "stale"),
    "no number": ({"requests": "many"}, "requests are 'many', wanted a number"),
    "two series": ({"times": 2}, "wanted"),
}


@pytest.fixture(params=list(COUNT_SOURCES))
def rig(request):
    if request.param == "cloudwatch":
        pytest.importorskip("boto3", reason="boto3 is an extra, and not installed here")
    with source_rig(request.param) as one:
        yield one


@pytest.fixture
def ask(rig, tmp_path):
    more = {} if "http" in rig.can else {"folder": tmp_path}
    return lambda *colors, **options: rig.ask(*colors, **more, **options)


@pytest.fixture
def over_http(rig):
    if "http" not in rig.can:
        pytest.skip("SQL speaks no HTTP; tests/contract/test_real_sources.py breaks a real database")
    return rig


def test_every_kind_has_a_rig():
    assert set(SOURCE_RIGS) == set(COUNT_SOURCES)


def test_each_color_has_its_counts_and_their_time(rig, ask):
    rig.words = {"blue": Says(1000, 5, age=7), "green": Says(200, 40, age=15)}
    blue, green = ask(BLUE, GREEN)
    assert (blue.requests, blue.errors, blue.at) == (1000, 5, rig.time_of("blue"))
    assert (green.requests, green.errors, green.at) == (200, 40, rig.time_of("green"))


def test_errors_are_never_more_than_requests(rig, ask):
    rig.words["green"] = Says(requests=10, errors=11)
    assert [(found.requests, found.errors) for found in ask(GREEN)] == [(10, 10)]


@pytest.mark.parametrize("case", NONE)
def test_what_is_no_count_is_missing_data_of_that_color_only(rig, ask, case):
    if case in rig.cannot:
        pytest.skip(f"{rig.kind}: {rig.cannot[case]}")
    change, says = NONE[case]
    rig.words["green"] = Says(**change)
    blue, green = ask(BLUE, GREEN)
    assert blue.requests == 1000
    assert type(green) is NoNumber
    assert says in str(green)


def test_a_clock_far_ahead_is_told(rig, ask):
    if rig.kind in ("loki", "sql", "datadog", "influxdb", "cloudwatch", "graphite"):
        pytest.skip("it is asked up to now, and tells nothing from later on")
    rig.words["green"] = Says(age=-60)
    assert "clock is 60 s ahead of ours" in str(ask(GREEN)[0])


def test_the_question_is_one_that_the_documentation_describes(over_http):
    over_http.ask(BLUE, GREEN)
    for asked in over_http.site.asked:
        over_http.api.understands(asked, over_http.since, over_http.until)


def test_one_question_tells_both_colors(over_http):
    found = over_http.ask(BLUE, GREEN, BLUE)
    assert [one.requests for one in found] == [1000] * 3
    assert len(over_http.site.asked) == 1


BROKEN = {
    "time-out": (Reply(hang=3), "within 1 s|Read timeout"),
    "HTTP 500": (Reply(500, body="oops"), "500"),
    "HTTP 503 as a page": (Reply(503, {"Content-Type": "text/html"}, "<h1>gone</h1>"), "503|no JSON"),
    "not JSON": (Reply(body="<html>log in</html>"), "no JSON|not what"),
    "JSON of something else": (Reply(body='{"hello": ["world"]}'), "not what|empty"),
    "an empty list": (Reply(body="[]"), "not what|empty"),
    "a redirect": (Reply(302, {"Location": "http://login.example/"}), "302"),
    "a cut connection": (Reply(cut=True), "gives no answer"),
    "a cut answer": (Reply(cut=True, body='{"status": "succ'), "gives no answer|not what"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_whatever_breaks_is_missing_data(over_http, case):
    over_http.instead, says = BROKEN[case]
    (found,) = over_http.ask(GREEN, timeout="1s" if case == "time-out" else "30s")
    assert type(found) is NoNumber, found
    assert any(word in str(found) for word in says.split("|")), found


def test_a_refused_connection_is_missing_data(over_http):
    (found,) = over_http.ask(GREEN, url=closed_address())
    assert type(found) is NoNumber
    assert "gives no answer" in str(found)


def test_a_question_that_is_not_understood_is_refused(over_http):
    over_http.instead = Reply(400, body='{"__type": "ValidationError", "message": "parse error at char 7"}')
    (found,) = over_http.ask(GREEN)
    assert type(found) is QueryRefused
    assert "parse error at char 7" in str(found)


def test_wrong_credentials_are_told_without_the_secret(over_http):
    echoed = []

    def echo(asked):
        echoed.append(asked.headers.get(over_http.api.sent_as, ""))
        return Reply(401, body=f"who is {echoed[-1]}, {SECRET}")

    over_http.site.reply = echo
    (found,) = over_http.ask(GREEN)
    assert type(found) is NoNumber
    assert "401" in str(found)
    sent = echoed[0].rpartition(" ")[2]
    assert sent
    assert not [secret for secret in (SECRET, sent) if secret in str(found) + repr(found.__cause__)]


def test_a_missing_connection_is_an_error_before_anything_is_asked(over_http):
    source = over_http.source()

    def missing(name):
        raise SecretMissing(f"no connection {name}")

    source._secrets = missing
    with pytest.raises(SecretMissing, match="no connection c"):
        ask_source(source, over_http.since, over_http.until, GREEN)
    assert over_http.site.asked == []
