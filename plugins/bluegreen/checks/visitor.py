"""A user of a service: makes sessions and uses them. What carries one never leaves this object but to the service."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from secrets import token_hex
from urllib.parse import quote, quote_plus, unquote

from yarl import URL

from bluegreen.catalog.models import Service
from bluegreen.catalog.sessions import CreateSession, Sessions
from bluegreen.checks import health
from bluegreen.checks.fresh import Address, Answer, Asker, NoAnswer, excerpt
from bluegreen.checks.proof import STICKY_KEY
from bluegreen.checks.smoke import failures_of
from bluegreen.core.colors import Color
from bluegreen.core.errors import CheckFailed
from bluegreen.core.masks import masked
from bluegreen.core.ports import Credentials

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


@dataclass
class Session:
    """What carries one session; never printed."""

    cookies: dict[str, str] = field(repr=False)
    headers: dict[str, str] = field(repr=False)

    def take(self, answer: Answer) -> None:
        """Follow an answer's cookies as a browser does: a session may get another key with each use."""
        for name, value in _cookies(answer):
            self.cookies.pop(name, None)
            self.cookies.update({name: value} if value else {})


NOBODY = Session({}, {})


@dataclass(frozen=True)
class Used:
    """
    How a use of a session went.

    :param color: who answered, where that is known
    :param failures: what was not as it must be, without secrets
    :param said: the answer's status
    """

    color: Color | None
    failures: tuple[str, ...]
    said: str = ""


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

    async def create(self, place: Place) -> tuple[Color | None, Session]:
        """
        Make a session.

        :returns: who made it, where that is known, and the session
        :raises CheckFailed: there was none
        """
        wanted = self.plan.create
        address, headers = _address(self.service, place, wanted.path), self._headers(NOBODY, place, wanted.headers)
        try:
            answer = await self.asker.ask(
                address, wanted.timeout, method=wanted.method, headers=headers, body=self._body(wanted)
            )
        except NoAnswer as none:
            raise self.failed(place, f"found {self._shown(str(none))}") from None
        session = Session({}, {})
        session.take(answer)
        self._conceal(session.cookies.values())
        if answer.status != wanted.status:
            raise self.failed(place, f"expected status {wanted.status}, found {self._shown(answer.said)}")
        self._take_token(answer, session, place)
        if not session.cookies and not session.headers:
            raise self.failed(place, f"status {answer.status} without a cookie; where a token carries it give bearer")
        return self._color(answer, place), session

    def _take_token(self, answer: Answer, session: Session, place: Place) -> None:
        bearer = self.plan.create.bearer
        if bearer is None:
            return
        try:
            found = health.at(answer.text, bearer.find)
        except ValueError:
            found = None
        if not isinstance(found, str) or not found:
            # The body may hold it in another place, and so is not shown.
            raise self.failed(place, f"status {answer.status}, but no token at {bearer.find} in its JSON")
        self._conceal([found])
        session.headers[bearer.header] = bearer.value.replace("$token", found)

    async def use(self, session: Session, place: Place) -> Used:
        """Use a session, and follow its cookies where it was good."""
        test = self.plan.use
        address, headers = _address(self.service, place, test.path), self._headers(session, place, test.headers)
        try:
            answer = await self.asker.ask(
                address, test.max_latency, method=test.method, headers=headers, body=test.body
            )
        except NoAnswer as none:
            return Used(place.color, (f"expected an answer, found {self._shown(str(none))}",))
        self._conceal(value for _, value in _cookies(answer))
        hiding = replace(self.asker, secrets=(*self._secrets(), *self.asker.secrets))
        failures = tuple(masked(line) for line in failures_of(test, answer, hiding))
        if not failures and session is not NOBODY:
            session.take(answer)
        return Used(self._color(answer, place), failures, f"status {answer.status}")

    def _headers(self, session: Session, place: Place, own: Mapping[str, str]) -> dict[str, str]:
        """A test's own headers, the session, and through the entry another client each time, as the proof has them."""
        cookies = dict(session.cookies)
        if place.color is None:
            cookies.setdefault(self.cookie, token_hex(8))
        jar = "; ".join(f"{name}={value}" for name, value in cookies.items())
        mine = next((value for name, value in own.items() if name.lower() == "cookie"), "")
        sent = {name: value for name, value in own.items() if name.lower() != "cookie"}
        both = "; ".join(part for part in (mine, jar) if part)
        return {"Cache-Control": "no-cache", **sent, **session.headers} | ({"Cookie": both} if both else {})

    @property
    def cookie(self) -> str:
        """The cookie by which the router may know a client."""
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

    def failed(self, place: Place, fact: str) -> CheckFailed:
        """Return the error of a session that was not made."""
        return CheckFailed(
            f"no session was made {place.says}: {fact}",
            service=self.service.service,
            part="sessions",
            next_step="see sessions.create in the service file, and whether its login still works",
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
