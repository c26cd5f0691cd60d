"""Sources that count by color: the contract, and what a count must be to be one."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, NoReturn, Protocol

from bluegreen.analysis.prometheus_api import PENDING, SKEW, BadAnswer
from bluegreen.core.colors import Color
from bluegreen.core.errors import NoNumber, QueryRefused, SecretPending
from bluegreen.core.ports import Credentials, Secrets


@dataclass(frozen=True)
class CountedUntil:
    """
    What a source counted of one color since the evidence began.

    :param requests: answered ones; None where the source counts error lines only and the requests are the router's
    :param errors: those that failed, never more than ``requests``
    :param at: until when that is complete: the time that it belongs to
    """

    requests: int | None
    errors: int
    at: datetime


class Count(Protocol):
    """One question."""

    async def __call__(self, color: Color, since: datetime, until: datetime) -> CountedUntil:
        """
        Count a color's requests and errors.

        Where one question tells both colors, asking for the second one at the same ``since`` and ``until`` asks nobody.

        :param since: when the evidence begins (aware): nothing from before it counts
        :param until: now (aware)
        :raises NoNumber: there is no count; says why
        :raises QueryRefused: the source does not understand the question
        """
        ...


class CountSource(Protocol):
    """Where counts come from."""

    interval: timedelta

    def opened(self) -> AbstractAsyncContextManager[Count]:
        """
        Ask within this.

        :raises SecretMissing: a connection that it needs is not there, or lacks something
        :raises CheckFailed: its certificate authority cannot be read, or a library is missing
        """
        ...


Told = Mapping[Color, CountedUntil | BadAnswer]
"""One answer: what it says of each color that was asked for."""
AskColors = Callable[[tuple[Color, ...], datetime, datetime], Awaitable[Told]]
Masked = Callable[[str], str]
UNEXPECTED = (KeyError, TypeError, IndexError, ValueError, AttributeError)
"""What reading an answer raises that is not as documented; ``BadAnswer`` is one of them, and says more."""


async def credentials_of(secrets: Secrets, connection: str | None) -> Credentials | None:
    """
    Return a connection's credentials, and wait for such as are on their way; None where there is no connection.

    :raises SecretMissing: it is not there
    """
    while connection:
        try:
            return secrets(connection)
        except SecretPending:
            await asyncio.sleep(PENDING)
    return None


@asynccontextmanager
async def counting(ask: AskColors, max_age: timedelta, masked: Masked, *, at_once: bool) -> AsyncIterator[Count]:
    """
    Make a ``Count`` of what asks for colors.

    :param max_age: a count that ends earlier is stale
    :param masked: makes a foreign text fit for an error
    :param at_once: one question tells both colors, and is asked once for both
    """
    latest: dict[tuple[datetime, datetime], asyncio.Future[Told]] = {}
    running: set[asyncio.Future[Told]] = set()

    def done(task: asyncio.Future[Told]) -> None:
        running.discard(task)
        if not task.cancelled():
            task.exception()  # nobody may be left who takes it

    async def shared(since: datetime, until: datetime) -> Told:
        if (since, until) not in latest:
            latest.clear()
            task = latest[since, until] = asyncio.ensure_future(ask(tuple(Color), since, until))
            running.add(task)
            task.add_done_callback(done)
        return await asyncio.shield(latest[since, until])  # who gives up does not take the answer from the other color

    async def count(color: Color, since: datetime, until: datetime) -> CountedUntil:
        try:
            told = await (shared(since, until) if at_once else ask((color,), since, until))
            found = told[color]
            if isinstance(found, BadAnswer):
                raise found
            return in_time(found, until, max_age)
        except BadAnswer as bad:
            kind = QueryRefused if bad.refused else NoNumber
            raise kind(masked(str(bad))) from None  # its own text is not masked

    try:
        yield count
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


def in_time(found: CountedUntil, until: datetime, max_age: timedelta) -> CountedUntil:
    """
    Return a count whose time is no later than the question.

    :raises BadAnswer: it is stale, or from a clock that is ahead
    """
    age = (until - found.at).total_seconds()
    if age > max_age.total_seconds():
        refuse(
            f"stale: it was counted until {age:.0f} s before now, at most {max_age.total_seconds():.0f} s are allowed"
        )
    if age < -SKEW:
        refuse(f"the source's clock is {-age:.0f} s ahead of ours: nobody knows when that was counted")
    return replace(found, at=min(found.at, until))


def count_until(requests: Any, errors: Any, at: datetime) -> CountedUntil:
    """
    Make a count of foreign values. Two counters are never read at quite the same moment: errors beyond requests are cut.

    :param requests: None where the source does not count them
    :raises BadAnswer: one is no count
    """
    failed = count_of(errors, "errors")
    if requests is None:
        return CountedUntil(None, failed, at)
    answered = count_of(requests, "requests")
    return CountedUntil(answered, min(failed, answered), at)


def count_of(value: Any, what: str) -> int:
    """
    Return a foreign value as a count.

    :raises BadAnswer: it is none: NaN, infinite, negative, or no number
    """
    try:
        number = float(value if isinstance(value, str | int | float) and not isinstance(value, bool) else "")
    except (ValueError, OverflowError):
        refuse(f"{what} are {value!r}, wanted a number")
    if not math.isfinite(number):
        refuse(f"{what} are {number}: no count")
    if number < 0:
        refuse(f"{what} are negative, {number:g}: a counter that began anew?")
    return round(number)


def each(colors: Iterable[Color], tell: Callable[[Color], CountedUntil]) -> Told:
    """Tell color by color: what is wrong with one is not the other's fault."""
    told: dict[Color, CountedUntil | BadAnswer] = {}
    for color in colors:
        try:
            told[color] = tell(color)
        except BadAnswer as bad:
            told[color] = bad
    return told


EMPTY = "empty: nothing of this color was counted: no traffic, or a query that matches nothing"


def refuse(fact: str, *, query: bool = False) -> NoReturn:
    """
    Say that an answer is no count.

    :param query: the source does not understand the question
    """
    raise BadAnswer(fact, refused=query)
