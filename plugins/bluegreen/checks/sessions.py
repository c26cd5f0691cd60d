"""
Sessions over HTTP: made on one color and used on the other, in the memory of one call.

What carries a session is a secret: it leaves this module in no value, no error and no log line.
"""

from __future__ import annotations

import asyncio
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from secrets import token_hex
from urllib.parse import quote, quote_plus, unquote

from yarl import URL

from bluegreen.catalog.models import Service
from bluegreen.catalog.sessions import CreateSession, Sessions
from bluegreen.checks import health
from bluegreen.checks.fresh import Address, Answer, Asker, NoAnswer, asking, excerpt, shown
from bluegreen.checks.proof import STICKY_KEY
from bluegreen.checks.smoke import failures_of
from bluegreen.core.colors import Color
from bluegreen.core.errors import CheckFailed
from bluegreen.core.masks import masked
from bluegreen.core.ports import Credentials, Secrets

MOST_LOGINS = 200
MISSED = 1e-6
"""How often a color that is drawn by its share may be missed by chance in all tries."""
SHORTEST_SECRET = 6
"""Characters: what is shorter, such as ``1`` in a cookie, guards nothing and would be hidden everywhere."""

_TAKEN_BACK = re.compile(r"max-age\s*=\s*(0|-\d+)|expires\s*=.*\b1970\b.*", re.IGNORECASE)


@dataclass(frozen=True)
class Place:
    """
    Where a session is made or used.

    :param base: address of the entry or of a target
    :param node: ``host:port`` of a node's entry, or None for a target
    :param color: whose target it is; None for an entry, whose answers name it
    :param says: how people are told
    """

    base: str
    says: str
    node: str | None = None
    color: Color | None = None


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


def entries(service: Service) -> tuple[Place, ...]:
    """Every node's entry."""
    return tuple(Place(service.entry.url, f"through {n.name}", n.entry) for n in service.router.nodes)


def targets(service: Service, color: Color) -> tuple[Place, ...]:
    """Every target of a color, past the router."""
    return tuple(Place(t, f"at {shown(t)}", color=color) for t in service.colors[color].targets)


@dataclass
class _Session:
    """What carries one session; never printed."""

    cookies: dict[str, str] = field(repr=False)
    headers: dict[str, str] = field(repr=False)

    def take(self, answer: Answer) -> None:
        """Follow an answer's cookies as a browser does: a session may get another key with each use."""
        for name, value in _cookies(answer):
            self.cookies.pop(name, None)
            self.cookies.update({name: value} if value else {})


_NOBODY = _Session({}, {})


@dataclass
class Visitor:
    """
    A user who makes sessions and uses them.

    :param asker: makes the requests
    :param service: whose sessions
    :param login: what the body is filled in with
    :param hide: what must not be shown; grows with each session
    """

    asker: Asker
    service: Service
    login: Credentials | None = field(repr=False)
    hide: set[str] = field(default_factory=set, repr=False)

    @property
    def plan(self) -> Sessions:
        """The section of the service file."""
        assert self.service.sessions is not None  # noqa: S101 - nobody else makes a visitor
        return self.service.sessions

    async def cross(self, path: Path, within: timedelta | None) -> list[Crossing]:
        """
        Make a session on one color and use it in each place of the other.

        :param within: for all of it; None for no limit but each request's own
        :raises CheckFailed: no session was made
        """
        seconds = within.total_seconds() if within else None
        found: list[Crossing] = []
        try:
            async with asyncio.timeout(seconds):
                session = await self._made(path)
                for place in path.use if session else ():
                    found.append(await self._used(path, place, session or _NOBODY))
        except TimeoutError:
            return found + [
                self._missed(path, place, f"out of time after {seconds:g} s") for place in path.use[len(found) :]
            ]
        return found or [self._missed(path, place) for place in path.use]

    async def without(self, place: Place) -> str:
        """Use no session at all; return why nothing was wrong with that, empty where it was refused as it must be."""
        _, failures, said = await self._use(_NOBODY, place)
        return "" if failures else said

    def _missed(self, path: Path, place: Place, why: str = "") -> Crossing:
        why = why or f"{path.made_on} answered none of {min(path.tries, MOST_LOGINS)} requests that make one"
        return Crossing((path.made_on, path.make.says), (path.used_on, place.says), None, why)

    async def _made(self, path: Path) -> _Session | None:
        """Make one on the color; None where the entry gave that color none of the requests."""
        for _ in range(min(path.tries, MOST_LOGINS)):
            color, session = await self._create(path.make)
            if color is path.made_on:
                return session
            if path.chance >= 1:
                raise self._failed(path.make, f"expected an answer of {path.made_on}, found {color or 'no color'}")
        return None

    async def _used(self, path: Path, place: Place, session: _Session) -> Crossing:
        made, tries = (path.made_on, path.make.says), path.tries
        for _ in range(tries):
            color, failures, said = await self._use(session, place)
            if failures or color is path.used_on:
                where = (color or path.used_on, place.says)
                return Crossing(made, where, not failures, "; ".join(failures) or said)
            if self._cookie in session.cookies:  # the session itself keeps its client on a color: try another client
                session = await self._made(path) or session
        why = f"{path.used_on} answered none of {tries} requests"
        return Crossing(made, (path.used_on, place.says), None, why)

    async def _create(self, place: Place) -> tuple[Color | None, _Session]:
        wanted = self.plan.create
        request = {"method": wanted.method, "headers": self._headers(_NOBODY, place, wanted.headers)}
        try:
            answer = await self.asker.ask(
                _address(self.service, place, wanted.path), wanted.timeout, body=self._body(wanted), **request
            )
        except NoAnswer as none:
            raise self._failed(place, f"found {self._shown(str(none))}") from None
        session = _Session({}, {})
        session.take(answer)
        self._conceal(session.cookies.values())
        if answer.status != wanted.status:
            raise self._failed(place, f"expected status {wanted.status}, found {self._shown(answer.said)}")
        self._take_token(answer, session, place)
        if not session.cookies and not session.headers:
            raise self._failed(place, f"status {answer.status} without a cookie; where a token carries it give token")
        return self._color(answer, place), session

    def _take_token(self, answer: Answer, session: _Session, place: Place) -> None:
        token = self.plan.create.token
        if token is None:
            return
        try:
            found = health.at(answer.text, token.find)
        except ValueError:
            found = None
        if not isinstance(found, str) or not found:
            # The body may hold it in another place, and so is not shown.
            raise self._failed(place, f"status {answer.status}, but no token at {token.find} in its JSON")
        self._conceal([found])
        session.headers[token.header] = token.value.replace("$token", found)

    async def _use(self, session: _Session, place: Place) -> tuple[Color | None, list[str], str]:
        test = self.plan.use
        request = {"method": test.method, "headers": self._headers(session, place, test.headers), "body": test.body}
        try:
            answer = await self.asker.ask(_address(self.service, place, test.path), test.max_latency, **request)
        except NoAnswer as none:
            return place.color, [f"expected an answer, found {self._shown(str(none))}"], ""
        self._conceal(value for _, value in _cookies(answer))
        hiding = replace(self.asker, secrets=(*self._secrets(), *self.asker.secrets))
        failures = [masked(line) for line in failures_of(test, answer, hiding)]
        if not failures and session is not _NOBODY:
            session.take(answer)
        return self._color(answer, place), failures, f"status {answer.status}"

    def _headers(self, session: _Session, place: Place, own: Mapping[str, str]) -> dict[str, str]:
        """A test's own headers, the session, and through the entry another client each time, as the proof has them."""
        cookies = dict(session.cookies)
        if place.color is None:
            cookies.setdefault(self._cookie, token_hex(8))
        jar = "; ".join(f"{name}={value}" for name, value in cookies.items())
        mine = next((value for name, value in own.items() if name.lower() == "cookie"), "")
        sent = {name: value for name, value in own.items() if name.lower() != "cookie"}
        both = "; ".join(part for part in (mine, jar) if part)
        return {"Cache-Control": "no-cache", **sent, **session.headers} | ({"Cookie": both} if both else {})

    @property
    def _cookie(self) -> str:
        return self.service.router.client_cookie or STICKY_KEY

    def _color(self, answer: Answer, place: Place) -> Color | None:
        named = {value.strip().lower() for value in answer.headers.getall(self.service.entry.color_header, [])}
        if place.color:
            return place.color
        return next((color for color in Color if named == {str(color)}), None)

    def _body(self, wanted: CreateSession) -> str | None:
        if self.login is None or wanted.body is None:
            return wanted.body
        kind = next((value for name, value in wanted.headers.items() if name.lower() == "content-type"), "").lower()
        spell: Callable[[str], str] = str
        if "json" in kind:
            spell = _in_json
        elif "form" in kind:
            spell = quote_plus
        words = {"login": spell(self.login.login), "password": spell(self.login.password)}
        return re.sub(r"\$(login|password)\b", lambda found: words[found[1]], wanted.body)

    def _conceal(self, values: Iterable[str]) -> None:
        self.hide.update(value for value in values if len(value) >= SHORTEST_SECRET)

    def _secrets(self) -> tuple[str, ...]:
        password = {self.login.password} if self.login and self.login.password else set()
        spelled = {
            spelling
            for secret in self.hide | password
            for spelling in (
                secret,
                secret.strip('"'),
                unquote(secret),
                quote(secret, safe=""),
                quote_plus(secret),
                _in_json(secret),
            )
        }
        return tuple(sorted(spelled, key=len, reverse=True))

    def _shown(self, text: str) -> str:
        return excerpt(masked(text, [*self._secrets(), *self.asker.secrets]))

    def _failed(self, place: Place, fact: str) -> CheckFailed:
        return CheckFailed(
            f"no session was made {place.says}: {fact}",
            service=self.service.service,
            part="sessions",
            next_step="see sessions.create in the service file, and whether its login still works",
        )


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
    basic = secrets(service.entry.connection) if service.entry.connection else None

    async def run() -> list[Crossing]:
        async with asking(concurrency=1, ca_file=service.entry.ca_file, credentials=basic) as asker:
            visitor = Visitor(asker, service, login)
            if sure and (said := await visitor.without(entries(service)[0])):
                raise _proves_nothing(service, said)
            return [crossing for path in paths for crossing in await visitor.cross(path, within)]

    return asyncio.run(run())


def _proves_nothing(service: Service, said: str) -> CheckFailed:
    return CheckFailed(
        f"sessions.use passes without a session as well ({said}): it would not see that one is lost",
        service=service.service,
        part="sessions",
        next_step="give it json, contains or a status that only somebody with the session is answered; nothing was moved",
    )


def _address(service: Service, place: Place, path: str) -> Address:
    address = Address.of(place.base, path)
    if place.node:
        return address.pinned(place.node)
    # A target sees what it sees behind the router: the entry's name.
    return replace(address, host=URL(service.entry.url).host_port_subcomponent)


def _cookies(answer: Answer) -> Iterator[tuple[str, str]]:
    """Cookies that an answer sets; of one that it takes back the value is empty."""
    for line in answer.headers.getall("Set-Cookie", []):
        pair, *attributes = line.split(";")
        name, found, value = pair.strip().partition("=")
        over = any(_TAKEN_BACK.fullmatch(one.strip()) for one in attributes)
        if name and found:
            yield name.strip(), "" if over else value.strip()


def _in_json(text: str) -> str:
    return json.dumps(text)[1:-1]
