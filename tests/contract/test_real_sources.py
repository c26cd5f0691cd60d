"""Sources that count, on the real thing: Prometheus, InfluxDB, Graphite, PostgreSQL, SQLite."""

from __future__ import annotations

import sqlite3
import time
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import create_engine, text

from bluegreen.core.colors import Color
from bluegreen.core.errors import NoNumber, QueryRefused
from bluegreen.core.ports import Credentials
from tests.rigs import real_sources
from tests.rigs.deploy_targets import free_port
from tests.rigs.prometheus import BINARY, LOGIN, PASSWORD, PrometheusRig
from tests.rigs.real_sources import missing
from tests.rigs.sources import ask, source_of

BLUE, GREEN = Color.BLUE, Color.GREEN
INFLUXQL = 'SELECT sum("%s") FROM "hits" WHERE "color" = \'$color\''
WRONG = "planted-wrong-7f3a91"


def spanning(seconds=300):
    until = datetime.now(UTC).replace(microsecond=0)
    return until - timedelta(seconds=seconds), until


def asked(section, *colors, span=None, credentials=None):
    return ask(source_of(section, credentials)[1], *(span or spanning()), *colors)


def started(kind, server):
    if reason := missing(kind):
        pytest.skip(reason)
    with server() as one:
        yield one


@pytest.fixture(scope="module")
def rig():
    with PrometheusRig(login=True) as rig:
        yield rig


@pytest.fixture(scope="module")
def influx():
    yield from started("influxdb", real_sources.influx)


@pytest.fixture(scope="module")
def graphite():
    yield from started("graphite", real_sources.graphite)


@pytest.fixture(scope="module")
def postgres():
    yield from started("postgresql", real_sources.postgres)


@pytest.mark.prometheus
@pytest.mark.skipif(BINARY is None, reason="no prometheus here: apt-get install prometheus")
class TestPrometheus:
    @pytest.fixture(autouse=True)
    def well(self, rig):
        rig.reset()
        time.sleep(0.5)

    def section(self, rig, label="$color", **more):
        hits = f'http_requests_total{{environment="{label}"'
        told = {"requests": f"{hits}}}", "errors": f'{hits},status=~"5.."}}'}
        return {"type": "prometheus", "url": rig.url, "connection": "c", "timeout": "30s", **told, **more}

    def asked(self, rig, span, *colors, password=PASSWORD, **more):
        return asked(self.section(rig, **more), *colors, span=span, credentials=Credentials(LOGIN, password))

    def test_counts_of_each_color_since_the_beginning(self, rig):
        rig.traffic["green"].errors = 0.5
        time.sleep(0.5)  # the series of errors has its first sample
        since = datetime.now(UTC)
        time.sleep(3)
        until = datetime.now(UTC)
        blue, green = self.asked(rig, (since, until), BLUE, GREEN)
        assert blue.requests == pytest.approx(600, rel=0.15)
        assert (blue.errors, green.requests) == (0, pytest.approx(600, rel=0.15))
        assert green.errors == pytest.approx(300, rel=0.2)
        assert timedelta() <= until - blue.at < timedelta(seconds=1)

    def test_a_counter_that_begins_anew_goes_on(self, rig):
        since = datetime.now(UTC)
        time.sleep(1.5)
        rig.traffic["green"].counts = {"200": 0.0, "500": 0.0}
        time.sleep(1.5)
        (green,) = self.asked(rig, (since, datetime.now(UTC)), GREEN)
        assert green.requests == pytest.approx(600, rel=0.2)

    def test_a_label_that_is_not_there_is_empty(self, rig):
        (found,) = self.asked(rig, spanning(10), GREEN, label="nowhere-$color")
        assert (type(found), "empty" in str(found)) == (NoNumber, True)

    def test_an_old_sample_is_stale(self, rig):
        since, now = spanning(60)
        (found,) = self.asked(rig, (since, now + timedelta(seconds=200)), GREEN)
        assert (type(found), "stale" in str(found)) == (NoNumber, True), found

    def test_a_selector_that_is_none_is_refused(self, rig):
        (found,) = self.asked(rig, spanning(10), GREEN, label='$color" and')
        assert (type(found), "parse error" in str(found)) == (QueryRefused, True), found

    def test_wrong_credentials(self, rig):
        (found,) = self.asked(rig, spanning(10), GREEN, password=WRONG)
        assert (type(found), "401" in str(found), WRONG in str(found)) == (NoNumber, True, False)


class TestInfluxDB:
    def section(self, influx, **more):
        sums = {what: INFLUXQL % what for what in ("requests", "errors")}
        return {"type": "influxdb", "url": influx.url, "database": "shop", "connection": "c", **sums, **more}

    def asked(self, influx, span, *colors, password=real_sources.PASSWORD, **more):
        return asked(self.section(influx, **more), *colors, span=span, credentials=Credentials("admin", password))

    @pytest.fixture
    def span(self, influx):
        """Blue and green on two hosts; a point before the beginning; green's errors come once; nothing in the last 40 s."""
        since, until = spanning(100)
        influx.query("DROP MEASUREMENT hits", db="shop")
        lines = [f"hits,color=green,host=a requests=9999i,errors=9999i {(since.timestamp() - 1) * 1000:.0f}"]
        for seconds in (1, 31, 61):
            at = f"{(since.timestamp() + seconds) * 1000:.0f}"
            lines += [f"hits,color={c},host={h} requests=10i {at}" for c in ("blue", "green") for h in ("a", "b")]
        lines.append(f"hits,color=green,host=a errors=3i {at}")
        influx.write("\n".join(lines))
        return since, until

    def test_counts_of_each_color_and_their_time(self, influx, span):
        blue, green = self.asked(influx, span, BLUE, GREEN)
        assert [(one.requests, one.errors) for one in (blue, green)] == [(60, 0), (60, 3)]
        assert {blue.at, green.at} == {span[0] + timedelta(seconds=70)}

    def test_what_is_not_there(self, influx, span):
        since, until = span
        assert "stale" in str(self.asked(influx, (since, until + timedelta(minutes=5)), GREEN)[0])
        label = 'SELECT sum("requests") FROM "hits" WHERE "colour" = \'$color\''
        assert "empty" in str(self.asked(influx, span, GREEN, requests=label)[0])
        hosts = 'SELECT "requests" FROM "hits" WHERE "color" = \'$color\''
        assert "not executed" in str(self.asked(influx, span, GREEN, requests=hosts)[0])  # GROUP BY needs a sum
        (found,) = self.asked(influx, span, GREEN, requests=hosts.replace("SELECT", "SELCT"))
        assert (type(found), "error parsing query" in str(found)) == (QueryRefused, True)
        assert "is there such a database" in str(self.asked(influx, span, GREEN, database="none")[0])

    def test_wrong_credentials(self, influx, span):
        (found,) = self.asked(influx, span, GREEN, password=WRONG)
        assert (type(found), "401" in str(found), WRONG in str(found)) == (NoNumber, True, False)


class TestGraphite:
    def test_counts_of_each_color_and_their_time(self, graphite):
        until = datetime.fromtimestamp(int(time.time()) // 10 * 10, UTC)
        since = until - timedelta(seconds=95)  # in the middle of a step
        at = int(until.timestamp())
        for color, host in (("blue", "a"), ("green", "a"), ("green", "b")):
            points = {at - 100: 9999.0} | {at - age: 10.0 for age in (90, 60, 40)}
            graphite.write(f"shop.{color}.{host}.requests", points)
        graphite.write("shop.green.b.errors", {at - 40: 4.0})
        sums = {what: f"sumSeries(shop.$color.*.{what})" for what in ("requests", "errors")}
        section = {"type": "graphite", "url": graphite.url, **sums}
        blue, green = asked(section, BLUE, GREEN, span=(since, until))
        assert [(one.requests, one.errors) for one in (blue, green)] == [(30, 0), (60, 4)]
        assert {blue.at, green.at} == {until - timedelta(seconds=30)}
        each_host = section | {"requests": "shop.$color.*.requests"}
        assert "2 series of green requests" in str(asked(each_host, GREEN, span=(since, until))[0])
        assert "empty" in str(asked(section | {"requests": "none.$color"}, GREEN, span=(since, until))[0])
        soon = (since, until + timedelta(minutes=3))
        assert "stale" in str(asked(section, GREEN, span=soon)[0])


QUERY = """
SELECT count(*) AS requests, sum(CASE WHEN failed THEN 1 ELSE 0 END) AS errors, max(at) AS latest FROM hits
WHERE color = :color AND at >= :since AND at < :until
"""


class TestSql:
    @pytest.fixture(params=["postgresql", "sqlite"])
    def url(self, request, tmp_path):
        return request.getfixturevalue("postgres") if request.param == "postgresql" else f"sqlite:///{tmp_path}/hits.db"

    def asked(self, url, *colors, span=None, **more):
        section = {"type": "sql", "connection": "c", "query": QUERY, "timeout": "30s", **more}
        return asked(section, *colors, span=span, credentials=Credentials(password=url))

    @pytest.fixture
    def span(self, url):
        since, until = spanning()
        aware = url.startswith("postgresql")
        hits = [("green", True, since - timedelta(seconds=1))]
        hits += [
            (c, c == "green" and n == 0, since + timedelta(seconds=n)) for c in ("blue", "green") for n in range(200)
        ]
        with create_engine(url).begin() as database:
            kind = "timestamptz" if aware else "timestamp"
            database.execute(text("DROP TABLE IF EXISTS hits"))
            database.execute(text(f"CREATE TABLE hits (color text, failed boolean, at {kind})"))
            for color, failed, at in hits:
                told = at if aware else at.strftime("%Y-%m-%d %H:%M:%S.%f")
                database.execute(text("INSERT INTO hits VALUES (:c, :f, :a)"), {"c": color, "f": failed, "a": told})
        return since, until

    def test_counts_of_each_color_and_their_time(self, url, span):
        blue, green = self.asked(url, BLUE, GREEN, span=span)
        assert [(one.requests, one.errors) for one in (blue, green)] == [(200, 0), (200, 1)]
        assert {blue.at, green.at} == {span[0] + timedelta(seconds=199)}

    def test_what_is_not_there(self, url, span):
        since, until = span
        assert "stale" in str(self.asked(url, GREEN, span=(since, until + timedelta(minutes=2)))[0])
        assert "empty" in str(self.asked(url, GREEN, span=(until, until + timedelta(minutes=2)))[0])
        assert "empty" in str(self.asked(url, GREEN, span=span, query=QUERY.replace(":color", ":color || 'x'"))[0])
        grouped = QUERY.replace(", max(at) AS latest", "") + " GROUP BY at"
        assert "several rows" in str(self.asked(url, GREEN, span=span, query=grouped)[0])

    def test_a_query_that_is_not_understood_is_refused(self, url, span):
        for query in (
            QUERY.replace("FROM hits", "FROM nowhere"),
            QUERY.replace("SELECT", "SELCT"),
            QUERY.replace("AS errors", ""),
        ):
            (found,) = self.asked(url, GREEN, span=span, query=query)
            assert type(found) is QueryRefused, found

    def test_a_query_that_takes_too_long_is_given_up(self, url, span):
        endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 30000000) SELECT count(*) AS requests"
        query = f"{endless}, 0 AS errors FROM n WHERE :color <> '' AND :since < :until"
        begun = time.monotonic()
        (found,) = self.asked(url, GREEN, span=span, query=query, timeout="300ms")
        assert (type(found), time.monotonic() - begun < 3) == (NoNumber, True)
        assert "gives no answer: timeout" in str(found) or "statement timeout" in str(found)

    def test_wrong_credentials_and_nobody_there(self, postgres):
        wrong = postgres.replace(real_sources.PASSWORD, WRONG)
        (found,) = self.asked(wrong, GREEN)
        assert (type(found), "authentication failed" in str(found), WRONG in str(found)) == (NoNumber, True, False), (
            found
        )
        nobody = f"{postgres.rpartition(':')[0]}:{free_port()}/postgres"
        (found,) = self.asked(nobody, GREEN)
        assert (type(found), real_sources.PASSWORD in str(found)) == (NoNumber, False)
        assert "refused" in str(found)

    def test_nothing_is_ever_written(self, tmp_path):
        with sqlite3.connect(tmp_path / "hits.db") as database:
            database.execute("CREATE TABLE hits (color)")
        url = f"sqlite:///{tmp_path}/hits.db"
        self.asked(
            url, GREEN, query="INSERT INTO hits VALUES (:color) RETURNING 5 AS requests, 0 AS errors, :since AS latest"
        )
        assert sqlite3.connect(tmp_path / "hits.db").execute("SELECT count(*) FROM hits").fetchone() == (0,)
