"""Eventual consistency: a query whose one number says how far consumers or copies are behind."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any

from psycopg import errors, sql

from bluegreen.catalog.migrations import Watermark
from bluegreen.core.deadlines import Deadline
from bluegreen.core.errors import MigrationFailed
from bluegreen.migrations.pg_errors import Connect, told

STATEMENT_TIMEOUT = timedelta(seconds=30)


@dataclass(frozen=True)
class CaughtUp:
    """
    A watermark that is not above its bound.

    :param waited_s: until it was
    """

    name: str
    value: float
    max: float
    waited_s: float

    def as_json(self) -> dict[str, Any]:
        """JSON for XCom and reports."""
        return asdict(self)


def wait_behind(
    connect: Connect,
    watermark: Watermark,
    *,
    statement_timeout: timedelta = STATEMENT_TIMEOUT,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> CaughtUp:
    """
    Wait until a query's number is not above its bound.

    :param statement_timeout: of one look; the query can write nothing
    :raises MigrationFailed: still above in the end, or no number at all: nothing, several rows, NULL, a text
    :raises MigrationBlocked: the database does not answer, or not in time
    """
    deadline = Deadline(watermark.within, clock, sleep)
    begun, value = clock(), math.nan
    with told(watermark.name, "its query ended"), connect() as connection:
        milliseconds = f"{statement_timeout.total_seconds() * 1000:.0f}"
        connection.execute("SELECT set_config('statement_timeout', %s, false)", [milliseconds])
        connection.execute("SELECT set_config('default_transaction_read_only', 'on', false)")
        for _ in deadline.tries(first_pause=0.2, longest_pause=5.0):
            value = _number(connection.execute, watermark)
            if value <= watermark.max:
                return CaughtUp(watermark.name, value, watermark.max, round(clock() - begun, 3))
    raise MigrationFailed(
        f"found {value:g} after {deadline.span.total_seconds():g} s, allowed {watermark.max:g}",
        part=watermark.name,
        next_step="do its consumers run? release again when they have caught up, or raise within",
    )


def _number(execute: Callable[[sql.SQL], Any], watermark: Watermark) -> float:
    try:
        cursor = execute(sql.SQL(watermark.query))
    except errors.ReadOnlySqlTransaction:
        raise _no_number(watermark, "found a query that writes") from None
    if cursor.description is None:
        raise _no_number(watermark, "found a statement that gives no rows")
    rows = cursor.fetchmany(2)
    if len(rows) != 1 or len(rows[0]) != 1:
        count = "no row" if not rows else "several rows" if len(rows) > 1 else f"{len(rows[0])} columns"
        raise _no_number(watermark, f"found {count}")
    value = rows[0][0]
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal) or not math.isfinite(value):
        what = "NULL" if value is None else str(value) if isinstance(value, float | Decimal) else type(value).__name__
        raise _no_number(watermark, f"found {what}")
    return float(value)


def _no_number(watermark: Watermark, fact: str) -> MigrationFailed:
    step = "missing data is not 0: write a SELECT that always gives one number, like count(*) or coalesce(…, 0)"
    return MigrationFailed(f"{fact}, wanted one number", part=watermark.name, next_step=step)
