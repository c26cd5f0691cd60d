"""
Sessions over HTTP: made on one color and used on the other, in the memory of one call.

What carries a session is a secret: it is in no value, no error and no log line of this module.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from bluegreen.catalog.models import Service
from bluegreen.checks.fresh import asking, shown
from bluegreen.checks.visitor import NOBODY, Place, Session, Visitor
from bluegreen.core.colors import Color
from bluegreen.core.errors import CheckFailed
from bluegreen.core.ports import Secrets

MOST_LOGINS = 200
MISSED = 1e-6
"""How often a color that is drawn by its share may be missed by chance in all tries."""


@dataclass(frozen=True)
class Crossing:
    """
    One session that was made on one color and used in one place of the other.

    :param made: color and place that it was made on
    :param used: color and place that it was used on
    :param kept: whether it was good there; None where the other color did not answer within all tries
    :param says: what the last answer was, or why there was none, without secrets
    """

    made: tuple[Color, str]
    used: tuple[Color, str]
    kept: bool | None
    says: str

    @property
    def line(self) -> str:
        """One line for people."""
        word = {True: "is kept", False: "is lost", None: "was not tried"}[self.kept]
        (made, made_where), (used, used_where) = self.made, self.used
        return f"a session made on {made} ({made_where}) {word} on {used} ({used_where}): {self.says}"


@dataclass(frozen=True)
class Path:
    """
    A direction to try.

    :param make: where the session is made
    :param made_on: color that must make it
    :param use: where it is used, each of them
    :param used_on: color that must answer there
    :param chance: share of requests that the entry gives the rarer color, 0 to 1; 1 where one request is enough
    """

    make: Place
    made_on: Color
    use: tuple[Place, ...]
    used_on: Color
    chance: float = 1.0

    @property
    def tries(self) -> int:
        """Requests after which a color that is drawn by its share has answered, but for one in a million."""
        return 1 if self.chance >= 1 else math.ceil(math.log(MISSED) / math.log1p(-self.chance))

    @property
    def made(self) -> tuple[Color, str]:
        """Color and place that the session is made on."""
        return self.made_on, self.make.says

    def untried(self, place: Place, why: str) -> Crossing:
        """Return what stands for a session that could not be used on the other color."""
        return Crossing(self.made, (self.used_on, place.says), None, why)


def entries(service: Service) -> tuple[Place, ...]:
    """Every node's entry."""
    return tuple(Place(service.entry.url, f"through {n.name}", n.entry) for n in service.router.nodes)


def targets(service: Service, color: Color) -> tuple[Place, ...]:
    """Every target of a color, past the router."""
    return tuple(Place(t, f"at {shown(t)}", color=color) for t in service.colors[color].targets)


def cross(
    service: Service,
    secrets: Secrets,
    paths: Sequence[Path],
    *,
    within: timedelta | None = None,
    sure: bool = False,
) -> list[Crossing]:
    """
    Try each direction, one after the other.

    :param secrets: where the logins of entry and body come from
    :param within: for each direction; what is open then counts as not tried
    :param sure: first ask without a session, which must be refused: else a session that is lost would not be seen
    :raises CheckFailed: no session was made, or whoever has none passes as well
    :raises SecretMissing: a connection is not there
    """
    wanted = service.sessions
    assert wanted is not None  # noqa: S101 - asked for services that have the section
    login = secrets(wanted.create.connection) if wanted.create.connection else None
    basic = service.entry.credentials(secrets)

    async def run() -> list[Crossing]:
        async with asking(concurrency=1, ca_file=service.entry.ca_file, credentials=basic) as asker:
            visitor = Visitor(asker, service, login)
            if sure:
                await _needs_a_session(visitor)
            return [crossing for path in paths for crossing in await _tried(visitor, path, within)]

    return asyncio.run(run())


async def _needs_a_session(visitor: Visitor) -> None:
    used = await visitor.use(NOBODY, entries(visitor.service)[0])
    if not used.failures:
        raise CheckFailed(
            f"sessions.use passes without a session as well ({used.said}): it would not see that one is lost",
            service=visitor.service.service,
            part="sessions",
            next_step="nothing was moved; give it json, contains or a status that only somebody with the session is answered",
        )


async def _tried(visitor: Visitor, path: Path, within: timedelta | None) -> list[Crossing]:
    """Make a session on one color, and use it in each place of the other."""
    seconds = within.total_seconds() if within else None
    found: list[Crossing] = []
    try:
        async with asyncio.timeout(seconds):
            await _walk(visitor, path, found)
    except TimeoutError:
        return found + [path.untried(use, f"out of time after {seconds:g} s") for use in path.use[len(found) :]]
    return found


async def _walk(visitor: Visitor, path: Path, found: list[Crossing]) -> None:
    session = await _made(visitor, path)
    for use in path.use:
        why = f"{path.made_on} answered none of {min(path.tries, MOST_LOGINS)} requests that make one"
        found.append(await _used(visitor, path, use, session) if session else path.untried(use, why))


async def _made(visitor: Visitor, path: Path) -> Session | None:
    """Make a session on the color; None where the entry gave that color none of the requests."""
    for _ in range(min(path.tries, MOST_LOGINS)):
        color, session = await visitor.create(path.make)
        if color is path.made_on:
            return session
        if path.chance >= 1:
            raise visitor.failed(path.make, f"expected an answer of {path.made_on}, found {color or 'no color'}")
    return None


async def _used(visitor: Visitor, path: Path, place: Place, session: Session) -> Crossing:
    """Use a session until the other color has answered, or it is lost wherever."""
    for _ in range(path.tries):
        used = await visitor.use(session, place)
        if used.failures or used.color is path.used_on:
            where = (used.color or path.used_on, place.says)
            # The first of them says it: where the status is another one, so is the body.
            return Crossing(path.made, where, not used.failures, next(iter(used.failures), used.said))
        if visitor.cookie in session.cookies:  # the session itself keeps its client on a color: be another client
            session = await _made(visitor, path) or session
    return path.untried(place, f"{path.used_on} answered none of {path.tries} requests")
