"""The migrations bench: latencies count from when requests were due, both ways make the same change, the table hides nothing."""

from __future__ import annotations

import time

import pytest

from benchmarks import migrations
from benchmarks.database_app import MIX, RATE, Application, Request, Seen, Timetable
from benchmarks.migration_files import STATEMENTS
from benchmarks.migration_files import migrations as files
from benchmarks.migrations import Size, report
from benchmarks.migrations_side import Side, retries
from bluegreen.catalog.migrations import Backfill
from bluegreen.migrations.lint import lint
from bluegreen.migrations.pg_statements import split
from bluegreen.migrations.ports import Phase
from tests.rigs.postgres import missing, postgres

ROWS = 3000


@pytest.fixture(scope="module")
def server():
    assert not missing(), missing()
    with postgres() as running:
        yield running


@pytest.fixture
def side(server, tmp_path):
    made = Side(server, server.database(), tmp_path / "files")
    made.fill(ROWS)
    return made


def test_who_waits_for_a_lock_is_late_from_when_he_was_due_and_nobody_is_left_out(side, tmp_path):
    with Application(side.url, ROWS, tmp_path, "app") as application:
        time.sleep(0.3)
        begin = time.monotonic()
        with side.server.connect(side.dbname, autocommit=False) as connection:
            connection.execute("LOCK TABLE users")
            time.sleep(0.6)
        end = time.monotonic()
        time.sleep(0.3)
        seen = application.stop()
    waited = seen.within((begin, end - 0.2))
    # More of them than there are connections: each waited until the lock's end, whenever it was sent.
    assert len(waited.requests) == pytest.approx((end - 0.2 - begin) * RATE, abs=5)
    assert all(one.latency_s > end - 0.02 - one.due for one in waited.requests if one.due > begin + 0.05)
    assert seen.worst_ms == pytest.approx(600, abs=150)
    assert seen.failures == {}
    last = max(one.due for one in seen.requests)
    assert len(seen.requests) == round((last - min(one.due for one in seen.requests)) * RATE) + 1
    assert {one.kind for one in seen.requests} == set(MIX)


def test_the_timetable_ends_with_what_is_due_then():
    table = Timetable(rate=1000, begin=time.monotonic() - 0.01)
    table.stop_at = table.begin + 0.0045
    assert [table.next() and table.next()[0] for _ in range(2)] == [1, 3]
    assert table.next()[0] == 4
    assert table.next() is None


def test_what_was_seen_in_a_window_failures_and_all():
    seen = Seen(Request(float(due), due / 1000, "read", "Timeout" if due == 7 else "") for due in range(100))
    part = seen.within((5, 8), (50, 52))
    assert [one.due for one in part.requests] == [5, 6, 7, 50, 51]
    assert (part.worst_ms, part.failures, seen.p99_ms) == (51, {"Timeout": 1}, 98)
    assert Seen([]).worst_ms is None


def columns(side):
    with side.server.connect(side.dbname) as connection:
        found = connection.execute(
            "SELECT attname FROM pg_attribute WHERE attrelid = 'users'::regclass AND attnum > 0 AND NOT attisdropped"
            " UNION ALL SELECT tgname FROM pg_trigger WHERE tgrelid = 'users'::regclass ORDER BY 1"
        )
        return [name for (name,) in found]


def test_both_ways_make_the_same_change_and_it_can_be_taken_back(side):
    before = columns(side)
    side.naive()
    made = columns(side)
    assert set(made) > {*before, "first_name", "last_name"}
    side.forget()
    assert columns(side) == before
    side.expand()
    assert columns(side) == made
    side.forget()
    side.expand()
    assert columns(side) == made


def test_a_round_tells_the_runner_from_the_change_by_hand(side, tmp_path, monkeypatch):
    monkeypatch.setattr(migrations, "HOLD_S", 1.2)
    monkeypatch.setattr(migrations, "WARM_UP_S", 0.1)
    found = migrations._locks(side, Size(ROWS, rounds=1, baseline_s=0.5, stretch_s=1), tmp_path, print)
    assert found["naive_worst_query_ms"] > 1100
    assert found["expand_worst_query_ms"] < 900
    assert found["expand_retries"] == retries(side.told) >= 1
    assert found["expand_s"][0] > 1.1
    assert found["failed_during_changes"] == {}


def test_the_throttled_backfill_is_measured_in_stretches_until_it_is_done(side, tmp_path, monkeypatch):
    monkeypatch.setattr(migrations, "WARM_UP_S", 0.1)
    side.settings = side.settings.model_copy(update={"backfill": Backfill(batch=50, share=0.3)})
    side.expand()
    found = migrations._throttled(side, Size(ROWS, rounds=1, baseline_s=1, stretch_s=0.25), tmp_path, print)
    assert found["throttled_stretches"] > 1
    # Rows that the application wrote meanwhile have the new columns by the triggers.
    assert found["throttled_rows_per_s"] * found["throttled_s"] == pytest.approx(ROWS, rel=0.15)
    assert found["throttled_requests_before"] > 0
    with side.server.connect(side.dbname) as connection:
        assert connection.execute("SELECT count(*) FROM users WHERE first_name IS NULL").fetchone() == (0,)


def test_the_linter_gets_real_files_careless_ones_among_them():
    made = files(500)
    assert len({one.name for one in made}) == 500
    assert {len(split(one.sql, one.name)) for one in made} == {STATEMENTS}
    assert sum(one.phase is Phase.CONTRACT for one in made) == 100
    rules = {one.rule for one in lint(made[:20], database_type="postgresql")}
    assert "rename-column" in rules
    assert not rules & {"syntax-error", "not-readable"}


FOUND = {
    "rows": 1_000_000, "rate": 200.0, "connections": 8, "postgresql": "15.0", "held_s": 2.5, "lock_timeout_ms": 500,
    "expand_s": [3.1, 2.9], "naive_s": [2.5, 2.5], "expand_retries": 4, "backfill_rows_per_s": 40_000,
    "throttled_rows_per_s": 9000, "throttled_p99_ratio": 1.5, "lint_500_files_s": 1.0, "lint_statements": 2500,
    "lint_findings": 7, "failed_during_changes": {}, "failed_beside_backfill": {"OperationalError": 3},
    **{f"cpu_share_{what}": 0.5 for what in ("before", "during", "unthrottled", "of_everything")},
    **{f"throttled_{what}_{part}": 1.25 for what in ("requests", "p50", "p99", "worst") for part in ("before", "during")},
    **{f"throttled_{what}_{part}_ms": 1.25 for what in ("p50", "p99", "worst") for part in ("before", "during")},
    **{f"{part}_{what}": 10.5 for part in ("baseline", "expand", "naive") for what in ("requests", "p99_ms", "worst_query_ms")},
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({}, "| worst query during expand, ms above its baseline | 0 | 750 | met |"),
        ({"expand_worst_query_ms": 761.5}, "| worst query during expand, ms above its baseline | 751 | 750 | **missed** |"),
        ({"backfill_rows_per_s": 19_000}, "| s for 20,000 rows, unthrottled | 1.05 | 1 | **missed** |"),
        ({"throttled_p99_ratio": 2.5}, "backfill / before | 2.5 | 2 | **missed** |"),
        ({"lint_500_files_s": 10.5}, "| lint of 500 files, s | 10.5 | 10 | **missed** |"),
    ],
)  # fmt: skip
def test_the_table_says_what_was_missed(change, line):
    text = report(FOUND | change)
    assert line in text
    assert text.count("**missed**") == len(change)
    assert "3 failed" in text
    assert "2.90 to 3.10" in text
