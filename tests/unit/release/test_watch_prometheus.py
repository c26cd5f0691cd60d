"""
A watch with rules of type prometheus, over a real Prometheus and the memory router, in real time.

Whatever Prometheus answers that is no finite, fresh, single number is missing data with a sentence that names it: never
zero, and never the end of the watch itself.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import time
import traceback
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta

import pytest

from bluegreen.analysis.prometheus_api import PrometheusSource
from bluegreen.analysis.registry import make_source
from bluegreen.catalog.evidence import PrometheusRule
from bluegreen.catalog.models import Service
from bluegreen.core.colors import Color
from bluegreen.core.errors import NoNumber, ReleaseRefused, SecretPending
from bluegreen.core.stamp import now_utc
from bluegreen.release.adopt import adopt
from bluegreen.release.plan import dry_run, plan
from tests.rigs.deploy_targets import Reply, free_port, keys
from tests.rigs.prometheus import BINARY, LOGIN, PASSWORD, PrometheusRig, Proxy
from tests.unit.release.test_watch import RealTime, canary, run
from tests.unit.release.world import SERVICE, World, request

pytestmark = [
    pytest.mark.prometheus,
    pytest.mark.skipif(BINARY is None, reason="no prometheus here: apt-get install prometheus"),
]
ERROR_RATE = {"type": "prometheus", "metric": "error_rate", "max": 5, "window": "2s", "min_requests": 5}
P99 = ERROR_RATE | {"metric": "p99_ms", "max": 1000}


def own(query, **more):
    return {"type": "prometheus", "name": "mine", "query": query, "max": 5, "window": "1s"} | more


def asking(url, *rules, release=None, **evidence):
    told = {"type": "prometheus", "url": url, "interval": "200ms", "timeout": "1s"} | evidence
    frozen = SERVICE.frozen()
    return Service.model_validate(
        frozen | {"evidence": told, "release": frozen["release"] | {"rules": rules} | (release or {})}
    )


def begun(service, lasts=2.0, secrets=None):
    """A canary under a watch; its world, ports and spec."""
    world = RealTime()
    ports, spec = canary(world, service, lasts)
    return world, replace(ports, source=make_source(service, secrets or keys())), spec


def watched(service, lasts=2.0, secrets=None):
    """Watch; returns how it ended, the first rule of Prometheus's, and the world."""
    world, ports, spec = begun(service, lasts, secrets)
    end = run(ports, spec)
    return end, end.verdict["numbers"]["rules"][1], world


def missing(service, sentence, lasts=0.8, secrets=None):
    """Watch to the end without a number; the rule's text says why."""
    end, rule, world = watched(service, lasts, secrets)
    assert rule["state"] == "no data", rule
    assert rule["value"] is None
    assert re.search(sentence, rule["text"]), rule["text"]
    assert end.says == "unhealthy"
    assert end.reason.startswith("too little evidence when the watch ended: ")
    assert world.splits() == {"100/0"}
    return rule["text"]


@pytest.fixture(scope="module")
def running():
    with PrometheusRig() as rig:
        yield rig


@pytest.fixture
def rig(running):
    running.reset()
    return running


@pytest.fixture
def proxy(rig):
    with Proxy(rig.url) as found:
        yield found


@contextmanager
def one_of_its_own(**options):
    with PrometheusRig(**options) as rig:
        yield rig


# numbers ---------------------------------------------------------------------------------------------------------


def test_a_good_version_is_healthy_by_prometheus_alone(rig):
    end, errors, world = watched(asking(rig.url, ERROR_RATE, P99))
    assert (end.says, world.splits()) == ("healthy", {"90/10"}), end.reason
    assert errors["text"] == "error_rate by Prometheus 0.00 %, at most 5 %"
    slowest = end.verdict["numbers"]["rules"][2]
    assert 90 <= slowest["value"] <= 100  # all requests took 50 ms: the first bucket is up to 100 ms


def test_no_failed_request_ever_is_zero_per_cent_and_not_missing(rig):
    assert rig.ask('http_requests_total{environment="green",status=~"5.."}') == []
    assert watched(asking(rig.url, ERROR_RATE))[1]["value"] == 0


def test_a_bad_version_is_put_back_long_before_the_end(rig):
    rig.traffic["green"].errors = 0.3
    end, rule, world = watched(asking(rig.url, ERROR_RATE, P99), lasts=60)
    assert (end.says, world.splits()) == ("unhealthy", {"100/0"})
    assert rule["state"] == "broken"
    assert 5 < rule["value"] < 40
    assert end.verdict_at < end.restored_at < now_utc()


def test_a_slow_version_is_put_back(rig):
    rig.traffic["green"].seconds = 2
    end, _, world = watched(asking(rig.url, ERROR_RATE, P99), lasts=60)
    assert world.splits() == {"100/0"}
    assert re.fullmatch(r"p99_ms by Prometheus 2[0-9]{3}\.\d\d ms, at most 1000 ms", end.reason)


def test_a_bad_old_color_puts_no_release_back(rig):
    rig.traffic["blue"].errors, rig.traffic["blue"].seconds = 0.9, 4
    assert watched(asking(rig.url, ERROR_RATE, P99))[0].says == "healthy"


def test_what_the_version_before_did_on_the_same_color_does_not_count(rig):
    rig.traffic["green"].errors = 0.5
    rig.wait_for('rate(http_requests_total{environment="green",status="500"}[2s]) > 50')
    rig.traffic["green"].errors = 0
    rig.traffic["green"].grow()
    time.sleep(0.5)
    end, rule, _ = watched(asking(rig.url, ERROR_RATE | {"window": "60s"}), lasts=4)
    assert (end.says, rule["value"]) == ("healthy", 0)
    seen = float(rig.ask('sum(increase(http_requests_total{environment="green",status="500"}[60s]))')[0]["value"][1])
    assert seen > 20  # the whole window would have held it against the new version


def test_an_own_query_has_its_bounds(rig):
    rate = 'sum(rate(http_requests_total{environment="$color"}[$window]))'
    end, rule, _ = watched(asking(rig.url, own(rate, max=None, min=50, window="2s")))
    assert end.says == "healthy"
    assert rule["text"].endswith(", at least 50")
    rig.traffic["green"].rate = 10
    assert watched(asking(rig.url, own(rate, max=None, min=50, window="2s")), lasts=60)[0].says == "unhealthy"


def test_a_scalar_is_one_number(rig):
    assert watched(asking(rig.url, own('scalar(up{job="shop"} # $color\n)')))[1]["value"] == 1


def test_a_query_too_long_for_an_address_is_posted(rig, proxy):
    query = f'sum(rate(http_requests_total{{environment="$color",status!~"{"x" * 3000}"}}[2s]))'
    assert watched(asking(proxy.url, own(query, max=1000)))[0].says == "healthy"
    assert {asked.method for asked in proxy.asked} == {"POST"}


# faults and bad input --------------------------------------------------------------------------------------------


def test_prometheus_down(rig):
    missing(
        asking(f"http://127.0.0.1:{free_port()}", ERROR_RATE), "no data: Prometheus gives no answer: no connection: "
    )


def test_prometheus_killed_in_the_middle():
    with one_of_its_own() as rig:
        world, ports, spec = begun(asking(rig.url, ERROR_RATE), lasts=4)
        counters = ports.router.counters

        async def and_kill():
            if now_utc() > spec.since + timedelta(seconds=2):
                rig.kill()
            return await counters()

        ports.router.counters = and_kill
        end = run(ports, spec)
    assert end.reason.startswith(
        "too little evidence when the watch ended: error_rate by Prometheus: no data: Prometheus"
    )
    assert world.splits() == {"100/0"}


def test_empty(rig):
    absent = 'sum(rate(http_requests_total{environment="$color",status="418"}[$window]))'
    missing(asking(rig.url, own(absent)), "no data: empty: there is no such series")


def test_empty_because_the_label_is_another_one(rig):
    missing(asking(rig.url, ERROR_RATE, labels={"color": "$color"}), "no data: empty")


def test_nan(rig):
    rig.traffic["green"].rate = 0
    guide = (
        'sum(rate(http_requests_total{environment="$color",status="500"}[2s]) or vector(0))'
        ' / sum(rate(http_requests_total{environment="$color"}[2s])) * 100'
    )
    time.sleep(2.2)
    missing(asking(rig.url, own(guide)), "no data: NaN: something was divided by zero")


def test_no_requests_are_missing_data_and_not_zero_per_cent(rig):
    rig.traffic["green"].rate = 0
    time.sleep(0.5)
    missing(asking(rig.url, ERROR_RATE), "no data: empty", lasts=2)
    missing(asking(rig.url, P99), "no data: empty", lasts=2)


def test_fewer_requests_than_the_minimum_are_missing_data(rig):
    rig.traffic["green"].rate, rig.traffic["green"].errors = 3, 1.0
    missing(asking(rig.url, ERROR_RATE | {"min_requests": 50}), "no data: empty", lasts=3)


@pytest.mark.parametrize(("sign", "said"), [("", r"\+Inf"), ("-", "-Inf")])
def test_inf(rig, sign, said):
    query = f'{sign}sum(http_requests_total{{environment="$color"}}) / 0'
    missing(asking(rig.url, own(query)), f"no data: {said}: something was divided by zero")


def test_two_series(rig):
    rig.more = [f'queue_length{{environment="green",pod="{pod}"}} 3' for pod in ("one", "two")]
    rig.wait_for("queue_length")
    text = missing(asking(rig.url, own('queue_length{environment="$color"}')), "no data: 2 series, wanted one; sum")
    assert 'pod="one"' in text


@pytest.mark.parametrize(
    ("query", "said"),
    [
        (
            'http_requests_total{environment="$color"}[1m]',
            "the query gives a matrix, wanted one number; a range needs rate",
        ),
        ('"$color"', "the query gives a string, wanted one number"),
        ("sum((  # $color", "Prometheus says bad_data: invalid parameter .*unclosed left parenthesis"),
        (
            'http_requests_total{environment="$color"} + on() group_left up + on() {__name__=~"scrape_.+"}',
            "Prometheus says execution: (found duplicate series|multiple matches)",
        ),
    ],
    ids=["matrix", "string", "parse error", "execution error"],
)
def test_what_is_no_number(rig, query, said):
    missing(asking(rig.url, own(query)), f"no data: {said}")


def test_slow_holds_up_neither_samples_nor_the_lease(rig, proxy):
    proxy.hang = 30
    service = asking(proxy.url, ERROR_RATE, P99, release={"lease": "2s"}, timeout="3500ms")
    world, ports, spec = begun(service, lasts=3)
    samples, leases, counters = [], [], ports.router.counters

    async def counted():
        samples.append(time.monotonic())
        if world.nodes[0].stamp.lease:  # none any more after the restore
            leases.append(world.nodes[0].stamp.lease)
        return await counters()

    ports.router.counters = counted
    end = run(ports, spec)
    assert "timeout: no whole answer within 3.5 s" in end.reason
    # A sample that waited for an answer would have waited for its time-out.
    assert max(later - earlier for earlier, later in itertools.pairwise(samples)) < 3
    assert max(leases) > leases[0] + timedelta(seconds=2)


def test_slow_within_the_time_out_is_evidence(rig, proxy):
    proxy.hang = 0.6
    assert watched(asking(proxy.url, ERROR_RATE))[0].says == "healthy"


def test_one_lost_answer_is_no_missing_data(rig, proxy):
    service = asking(proxy.url, ERROR_RATE | {"no_data": "fail", "window": "1s"}, interval="500ms")
    _, ports, spec = begun(service, lasts=5)
    counters, losing = ports.router.counters, []

    async def and_lose():
        if not losing and now_utc() > spec.since + timedelta(seconds=3):
            proxy.lose = 1
            losing.append(len(proxy.asked))
        return await counters()

    ports.router.counters = and_lose
    assert run(ports, spec).says == "healthy"
    assert (proxy.lose, len(proxy.asked) > losing[0] + 1) == (0, True)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (Reply(503, body="Service Unavailable"), "no data: HTTP 503: Service Unavailable"),
        (Reply(404, body="404 page not found"), "no data: HTTP 404: 404 page not found"),
        (Reply(200, body="<html>Please log in</html>"), "no data: no JSON 200: <html>Please log in</html>"),
        (Reply(200), "no data: no JSON 200 with an empty body"),
        (Reply(302, {"Location": "/login"}), "no data: HTTP 302: redirected to /login, which is not followed"),
        (Reply(200, body='{"status": "success"}'), "no data: not what Prometheus answers"),
        (Reply(200, body="[1, 2]"), "no data: not what Prometheus answers"),
        (
            Reply(503, body='{"status": "error", "errorType": "timeout", "error": "query timed out in queue"}'),
            "no data: Prometheus says timeout: query timed out in queue",
        ),
        (Reply(cut=True), "no data: Prometheus gives no answer: broken connection"),
        (Reply(200, body='{"status": "suc', cut=True), "no data: Prometheus gives no answer: broken connection"),
    ],
    ids=[
        "503",
        "404",
        "html",
        "nothing",
        "redirect",
        "no data key",
        "a list",
        "error text",
        "cut",
        "cut in the middle",
    ],
)
def test_what_else_may_answer_in_its_place(rig, proxy, answer, said):
    proxy.instead = answer
    missing(asking(proxy.url, ERROR_RATE), re.escape(said))


def test_stale_because_the_shop_gives_old_times(rig):
    """Prometheus takes such a sample for five minutes, and says the time of the question beside it."""
    old = int((time.time() - 60) * 1000)
    rig.more = [f'queue_length{{environment="green"}} 3 {old}']
    rig.wait_for("queue_length")
    selector = own('queue_length{environment="$color"}')
    assert watched(asking(rig.url, selector))[0].says == "healthy"
    missing(asking(rig.url, selector, max_age="30s"), "no data: empty: there is no such series, or too few or too old")


def test_stale_because_a_cache_gives_old_answers(rig, proxy):
    service = asking(proxy.url, own('sum(http_requests_total{environment="$color"})', max=1e9), max_age="1s")
    proxy.freeze = True
    end, rule, world = watched(service, lasts=13.5)
    assert "stale: the sample is 1" in rule["text"]
    (line,) = [line for line in world.said if "s left" in line]  # every ten seconds
    assert re.search(r"mine \d+\.\d\d, at most 1e\+09", line)
    assert end.reason.startswith("too little evidence")


def test_a_clock_that_is_far_ahead_is_named(rig, proxy):
    ahead = time.time() + 3600
    proxy.instead = Reply(
        body=json.dumps(
            {"status": "success", "data": {"resultType": "vector", "result": [{"metric": {}, "value": [ahead, "0"]}]}}
        )
    )
    missing(asking(proxy.url, ERROR_RATE), "no data: Prometheus's clock is 3[56]\\d\\d s ahead of ours")


# what missing data means -----------------------------------------------------------------------------------------


def test_no_data_fail_ends_the_watch_when_a_whole_window_has_passed():
    service = asking(f"http://127.0.0.1:{free_port()}", ERROR_RATE | {"no_data": "fail"})
    end, rule, world = watched(service, lasts=60)
    assert (end.says, rule["state"], world.splits()) == ("unhealthy", "broken", {"100/0"})
    assert end.verdict_at - timedelta(seconds=10) < now_utc()


def test_no_data_ignore_lets_the_other_rules_decide():
    service = asking(f"http://127.0.0.1:{free_port()}", ERROR_RATE | {"no_data": "ignore"})
    assert watched(service, lasts=1)[0].says == "healthy"


def test_a_watch_that_begins_again_after_its_end_waits_for_its_first_answer(rig, proxy):
    """As after a triggerer's restart: the end is past, the evidence is not."""
    proxy.hang = 0.5
    _, ports, spec = begun(asking(proxy.url, ERROR_RATE), lasts=2)
    time.sleep(2.5)
    end = run(ports, spec)
    assert (end.says, end.verdict["numbers"]["rules"][1]["value"]) == ("healthy", 0)


# secrets ---------------------------------------------------------------------------------------------------------


def test_prometheus_behind_a_login():
    with one_of_its_own(login=True) as rig:
        service = asking(rig.url, ERROR_RATE, connection="metrics")
        secrets = keys(metrics=PASSWORD)
        good = lambda name: replace(secrets(name), login=LOGIN)  # noqa: E731
        assert watched(service, secrets=good)[0].says == "healthy"
        assert PASSWORD not in missing(service, "no data: HTTP 401: Unauthorized", secrets=secrets)
        missing(asking(rig.url, ERROR_RATE), "no data: HTTP 401: Unauthorized")


def test_a_password_alone_is_a_bearer_token_that_no_error_repeats(rig, proxy):
    proxy.instead = Reply(403, body=f"token {PASSWORD} is not known")
    service = asking(proxy.url, ERROR_RATE, connection="metrics")
    bearer = lambda name: replace(keys(metrics=PASSWORD)(name), login="")  # noqa: E731
    text = missing(service, r"no data: HTTP 403: token \*\*\* is not known", secrets=bearer)
    assert PASSWORD not in text
    assert proxy.asked[0].headers["Authorization"] == f"Bearer {PASSWORD}"


def test_a_trace_of_a_bad_answer_does_not_repeat_the_token_either(rig, proxy):
    proxy.instead = Reply(403, body=f"token {PASSWORD} is not known")
    service = asking(proxy.url, ERROR_RATE, connection="metrics")
    source = PrometheusSource(service.evidence, lambda name: replace(keys(metrics=PASSWORD)(name), login=""))

    async def ask():
        async with source.opened() as number:
            await number(
                next(rule for rule in service.release.rules if isinstance(rule, PrometheusRule)), Color.GREEN, 1
            )

    with pytest.raises(NoNumber, match="not known") as raised:
        asyncio.run(ask())
    assert PASSWORD not in "".join(traceback.format_exception(raised.value))


def test_a_connection_on_its_way_is_waited_for_also_at_the_end(rig):
    began, pending = time.monotonic(), []

    def secrets(name):
        if time.monotonic() < began + 3:
            pending.append(name)
            raise SecretPending("is being fetched")
        return keys(metrics=PASSWORD)(name)

    end, _, _ = watched(asking(rig.url, ERROR_RATE, connection="metrics"), lasts=1.5, secrets=secrets)
    assert end.says == "healthy"
    assert pending


def test_a_connection_that_is_not_there_is_missing_data(rig):
    missing(asking(rig.url, ERROR_RATE, connection="metrics"), "no data: no connection metrics")


def test_a_certificate_authority_that_cannot_be_read_is_missing_data(rig, tmp_path):
    missing(asking(rig.url, ERROR_RATE, ca_file=str(tmp_path / "none.pem")), "no data: .*none.pem cannot be read")


# before anything is touched --------------------------------------------------------------------------------------


def planned(service):
    world = World()
    ports = replace(world.ports(service), source=make_source(service, keys()))
    adopt(ports, "tests", "begin", "1")
    return ports


@pytest.mark.parametrize("begin", [plan, dry_run])
def test_a_query_that_prometheus_does_not_understand_is_refused_in_its_words(rig, begin):
    ports = planned(asking(rig.url, ERROR_RATE, own('sum((up{environment="$color"}')))
    epoch = ports.router.read().stamp.epoch
    with pytest.raises(
        ReleaseRefused, match=r"'mine' is not understood: Prometheus says bad_data: .*unclosed left paren"
    ):
        begin(ports, request())
    assert ports.router.read().stamp.epoch == epoch


def test_a_bad_query_does_not_stop_a_release_that_watches_nothing(rig):
    ports = planned(asking(rig.url, own("sum(( # $color")))
    assert plan(ports, request(skip=["watch"], skip_reason="it burns")).idle is Color.GREEN


def test_prometheus_down_or_without_data_does_not_keep_a_release_from_beginning(rig):
    for url in (rig.url, f"http://127.0.0.1:{free_port()}"):
        ports, said = planned(asking(url, own('nothing{environment="$color"}'))), []
        assert plan(replace(ports, log=said.append), request()).idle is Color.GREEN
        assert any(line.startswith("mine has no number for blue now: ") for line in said), said
