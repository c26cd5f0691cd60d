"""Health, smoke tests and prewarming against real servers."""

from __future__ import annotations

import itertools
import json
import time
from contextlib import ExitStack

import pytest

from bluegreen.catalog.models import Health
from bluegreen.checks.health import ask_targets, deployed
from bluegreen.checks.prewarm import prewarm
from bluegreen.checks.smoke import smoke
from bluegreen.core.colors import Color
from bluegreen.core.errors import CheckFailed
from bluegreen.core.ports import Credentials, Deployed
from tests.rigs.deploy_targets import LOOPBACK, Asked, Reply, Site, free_port, make_service

HEALTH = Health(timeout="300ms")


@pytest.fixture
def sites():
    with ExitStack() as stack:
        yield lambda reply: stack.enter_context(Site(reply))


def well(version="2.0", **more):
    return Reply(body=json.dumps({"version": version} | more))


def app(version="2.0", **paths: Reply):
    """A healthy target; further paths by their first word."""
    return lambda asked: paths.get(asked.path.strip("/").partition("?")[0], well(version))


def service(sites, *greens, **more):
    targets = {Color.BLUE: ["http://127.0.0.1:9"], Color.GREEN: [site.url for site in greens]}
    return make_service(targets, health={"timeout": "300ms"}, **more)


# health ----------------------------------------------------------------------------------------------------------


def test_each_target_is_asked_and_named(sites):
    good, sick, slow = sites(app()), sites(lambda _: Reply(503, body="warming up")), sites(lambda _: Reply(hang=30))
    closed = f"http://{LOOPBACK}:{free_port()}"
    start = time.monotonic()
    found = ask_targets([good.url, sick.url, slow.url, closed], HEALTH)
    assert time.monotonic() - start < 2
    assert [target.target for target in found] == [good.url, sick.url, slow.url, closed]
    assert [target.ok for target in found] == [True, False, False, False]
    assert found[0].version == "2.0"
    assert found[1].error == "HTTP 503: warming up"
    assert found[2].error == "timeout: no whole answer within 0.3 s"
    assert found[3].error.startswith("no connection: ")


def test_health_follows_no_redirect(sites):
    site = sites(lambda asked: Reply(302, {"Location": "/ok"}) if asked.path == "/health" else well())
    (found,) = ask_targets([site.url], HEALTH)
    assert not found.ok
    assert len(site.asked) == 1


@pytest.mark.parametrize(
    ("body", "path", "version", "error"),
    [
        ('{"version": "2.0"}', "version", "2.0", ""),
        ('{"build": {"number": 17}}', "build.number", "17", ""),
        ("healthy", None, None, ""),
        ("healthy", "version", None, "no JSON in healthy"),
        ('{"version": null}', "version", None, 'no version at version in {"version": null}'),
        ('{"version": true}', "version", None, 'no version at version in {"version": true}'),
        ('{"version": "2.0"}', "][", None, "][ is no JMESPath"),
    ],
)
def test_the_version_is_where_the_catalog_says(sites, body, path, version, error):
    (found,) = ask_targets([sites(lambda _: Reply(body=body)).url], Health(version=path))
    assert found.ok
    assert found.version == version
    assert found.error.startswith(error)
    assert bool(found.error) == bool(error)


def test_health_asks_the_path_and_status_of_the_catalog(sites):
    site = sites(lambda asked: Reply(204) if asked.path == "/ready?deep=1" else Reply(500))
    (found,) = ask_targets([site.url], Health(path="/ready?deep=1", status=204, version=None))
    assert found.ok


@pytest.mark.parametrize(
    ("versions", "expected"),
    [
        (("2.0", "2.0"), Deployed("2.0", 2, 2)),
        (("2.0", "1.0"), Deployed(None, 2, 2)),
        (("2.0", None), Deployed("2.0", 1, 2)),
        ((None, None), Deployed(None, 0, 2)),
    ],
)
def test_deployed_is_what_the_ready_targets_agree_on(sites, versions, expected):
    greens = [sites(app(v) if v else lambda _: Reply(503)) for v in versions]
    assert deployed(service(sites, *greens), Color.GREEN) == expected


def test_a_password_in_an_address_is_not_shown():
    (found,) = ask_targets([f"http://user:s3cret@{LOOPBACK}:{free_port()}"], HEALTH)
    assert "s3cret" not in repr(found)


# smoke -----------------------------------------------------------------------------------------------------------


def run_smoke(sites, greens, tests, version="2.0", **more):
    lines: list[str] = []
    try:
        return smoke(service(sites, *greens, smoke=tests), Color.GREEN, version, log=lines.append, **more), lines
    except CheckFailed as error:
        error.lines = lines
        raise


def test_smoke_runs_every_test_on_every_target(sites):
    api = Reply(headers={"Content-Type": "application/json; v=2"}, body='{"items": [1, 2], "ok": true}')
    greens = [sites(app(api=api)), sites(app(api=api))]
    test = {
        "path": "/api",
        "name": "api",
        "expect_headers": {"content-type": "^application/json"},
        "json": {"length(items)": 2, "ok": True},
        "contains": r'"items": \[',
    }
    results, lines = run_smoke(sites, greens, [test])
    assert [(r["target"], r["test"], r["ok"]) for r in results] == [
        (green.url, name, True) for green in greens for name in ("GET /health", "api")
    ]
    assert json.loads(json.dumps(results)) == results
    assert len(lines) == 4


@pytest.mark.parametrize(
    ("reply", "test", "found"),
    [
        (Reply(500, body="boom"), {}, "expected status 200, found 500: boom"),
        (Reply(302, {"Location": "/health"}), {}, "expected status 200, found 302 with an empty body"),
        (Reply(), {"expect_headers": {"X-A": "^b$"}}, "expected header X-A to match ^b$, found nothing"),
        (Reply(headers={"X-A": "c"}), {"expect_headers": {"X-A": "^b$"}}, "to match ^b$, found c"),
        (Reply(body='{"n": 1}'), {"json": {"n": 2}}, "expected n = 2, found 1"),
        (Reply(body='{"n": 1}'), {"json": {"n": True}}, "expected n = True, found 1"),
        (Reply(body="plain"), {"json": {"n": 2}}, "expected n = 2, found no JSON in plain"),
        (Reply(body="abc"), {"contains": "x+"}, "expected body to match x+, found abc"),
        (Reply(body="abc"), {"contains": "("}, "which is no regular expression"),
        (Reply(hang=30), {"max_latency": "200ms"}, "expected an answer within 0.2 s, found timeout"),
        (Reply(cut=True), {}, "expected an answer within 5 s, found broken connection"),
    ],
)
def test_smoke_says_what_it_expected_and_found(sites, reply, test, found):
    site = sites(app(api=reply))
    start = time.monotonic()
    with pytest.raises(CheckFailed) as raised:
        run_smoke(sites, [site], [{"path": "/api", "name": "the api"} | test])
    assert time.monotonic() - start < 2
    assert found in str(raised.value)
    assert f"{site.url}: the api" in str(raised.value)
    assert "1 of 2 smoke tests failed" in str(raised.value)


def test_smoke_lists_all_failures(sites):
    greens = [sites(app("1.0", api=Reply(500))), sites(app(api=Reply(404)))]
    with pytest.raises(CheckFailed) as raised:
        run_smoke(sites, greens, [{"path": "/api"}, {"path": "/fine"}])
    text = str(raised.value)
    assert "3 of 6 smoke tests failed" in text
    assert "expected version 2.0, found 1.0" in text
    assert "found 500" in text
    assert "found 404" in text
    assert len(raised.value.lines) == 6


def test_smoke_without_tests_still_asks_health_and_version(sites):
    with pytest.raises(CheckFailed, match=r"expected version 2.1, found 2.0"):
        run_smoke(sites, [sites(app("2.0"))], [], version="2.1")
    with pytest.raises(CheckFailed, match="expected status 200, found HTTP 503"):
        run_smoke(sites, [sites(lambda _: Reply(503))], [])


def test_smoke_sends_what_the_test_says(sites):
    site = sites(app())
    test = {"path": "/order", "method": "POST", "headers": {"X-Test": "1", "Host": "shop.example"}, "body": "a=b"}
    run_smoke(sites, [site], [test], credentials=Credentials("probe", "pw"))
    sent = site.asked[-1]
    assert (sent.method, sent.path, sent.body) == ("POST", "/order", b"a=b")
    assert sent.headers["X-Test"] == "1"
    assert sent.headers["Host"] == "shop.example"
    assert sent.headers["Authorization"] == "Basic cHJvYmU6cHc="


def test_a_tests_own_authorization_counts(sites):
    site = sites(app())
    test = {"path": "/order", "headers": {"authorization": "Bearer x"}}
    run_smoke(sites, [site], [test], credentials=Credentials("probe", "pw"))
    assert site.asked[-1].headers.get_all("Authorization") == ["Bearer x"]


def test_smoke_quotes_no_secret(sites):
    def echo(asked: Asked):
        return Reply(500, body=f"{asked.headers['Authorization']} s3cret-word {'x' * 1000}")

    with pytest.raises(CheckFailed) as raised:
        run_smoke(sites, [sites(echo)], [{"path": "/"}], credentials=Credentials("probe", "s3cret-word"))
    text = repr(raised.value) + str(raised.value) + "".join(raised.value.lines)
    assert "s3cret-word" not in text
    assert "cHJvYmU6" not in text
    assert "x" * 200 not in text


# prewarm ---------------------------------------------------------------------------------------------------------


def warm(sites, greens, **plan):
    lines: list[str] = []
    plan = {"paths": ["/a", "/b", "c"]} | plan
    return prewarm(service(sites, *greens, prewarm=plan), Color.GREEN, log=lines.append), lines


def test_prewarm_sends_each_path_over_all_targets(sites):
    greens = [sites(app()), sites(app())]
    numbers, lines = warm(sites, greens, requests=100, concurrency=10)
    assert (numbers["requests"], numbers["failures"], numbers["statuses"]) == (300, 0, {"200": 300})
    for green in greens:
        paths = [asked.path for asked in green.asked]
        assert {path: paths.count(path) for path in set(paths)} == {"/a": 50, "/b": 50, "/c": 50}
        assert green.connections <= 10
    assert json.loads(json.dumps(numbers)) == numbers
    assert "300 requests, 0 failed" in lines[0]


def test_prewarm_shows_that_it_helped(sites):
    seen = itertools.count()
    site = sites(lambda _: Reply(hang=0.05 if next(seen) < 10 else 0))
    numbers, _ = warm(sites, [site], paths=["/"], requests=100, concurrency=2)
    assert numbers["first_ms"]["p50"] > 50
    assert numbers["last_ms"]["p50"] < numbers["first_ms"]["p50"] / 2
    assert numbers["first_ms"]["p99"] >= numbers["first_ms"]["p50"]


def test_prewarm_fails_above_its_bound_and_stops(sites):
    site = sites(lambda _: Reply(503, body="cold"))
    with pytest.raises(CheckFailed, match=r"such as http://.*/a: 503: cold"):
        warm(sites, [site], requests=1000, concurrency=4)
    assert len(site.asked) < 20


def test_prewarm_takes_failures_up_to_its_bound(sites):
    seen = itertools.count()
    site = sites(lambda _: Reply(500) if next(seen) in (3, 5) else Reply(404))
    numbers, _ = warm(sites, [site], paths=["/"], requests=20, max_failures=2)
    assert numbers["failures"] == 2
    assert numbers["statuses"] == {"404": 18, "500": 2}


def test_prewarm_counts_what_hangs_or_breaks(sites):
    seen = itertools.count()
    site = sites(lambda _: Reply(hang=30) if next(seen) == 0 else Reply(cut=True))
    numbers, _ = warm(sites, [site], paths=["/"], requests=6, concurrency=2, max_failures=6, timeout="200ms")
    assert numbers["failures"] == 6
    assert numbers["statuses"] == {"timeout": 1, "broken connection": 5}
    assert numbers["first_ms"] == {}


def test_prewarm_without_a_word_in_the_catalog_does_nothing(sites):
    site = sites(app())
    assert prewarm(service(sites, site), Color.GREEN, log=lambda _: None)["requests"] == 0
    assert not site.asked
