"""One look at every target and through every node's entry: status, body, timing, color. Nothing is judged here."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from secrets import token_hex

from bluegreen.catalog.models import Service
from bluegreen.checks.fresh import Address, Answer, Asker, NoAnswer, asking, excerpt, shown
from bluegreen.checks.health import CONCURRENCY, version_in
from bluegreen.checks.proof import STICKY_KEY
from bluegreen.core.colors import Color
from bluegreen.core.masks import masked
from bluegreen.core.ports import Credentials

ENTRY_TIMEOUT = timedelta(seconds=5)
LONGEST_TEXT = 20_000
"""Characters of a body that are looked through; what is shown is far less."""


@dataclass(frozen=True)
class Look:
    """
    One answer, or why there was none.

    :param where: a target's address, a node's name, or the entry's own name
    :param url: what a person would ask for
    :param color: whose target it is; None for an entry
    :param status: HTTP status; None without an answer
    :param ms: milliseconds to the last byte; None without an answer
    :param body: the beginning of it, on one line, without secrets
    :param version: what a target reports
    :param served: value of the entry's color header
    :param kind: of no answer: ``timeout``, ``tls``, ``no connection``, ``broken connection``, ``no http``
    :param error: why there was no answer, without secrets
    """

    where: str
    url: str
    color: Color | None = None
    status: int | None = None
    ms: float | None = None
    body: str = ""
    version: str | None = None
    served: str | None = None
    kind: str = ""
    error: str = ""

    def __str__(self) -> str:
        if self.kind:
            return f"{self.where}: {self.kind}: {self.error}"
        more = [f"{self.status} in {self.ms:.0f} ms"]
        more += [f"version {self.version}"] if self.version else []
        more += [f"color {self.served or 'none'}"] if self.color is None else []
        return f"{self.where}: {', '.join(more)}: {self.body or 'empty body'}"


def look_at_targets(service: Service, secrets: Sequence[str] = ()) -> list[Look]:
    """
    Ask every target of both colors for its health at the same time.

    :param secrets: what must not be shown, whoever echoes it
    :raises CheckFailed: the CA file cannot be read
    """

    async def ask_all() -> list[Look]:
        async with asking(concurrency=CONCURRENCY, ca_file=service.entry.ca_file) as asker:
            targets = [(color, target) for color in Color for target in service.colors[color].targets]
            return await _all([_target(asker, service, *target, secrets) for target in targets])

    return asyncio.run(ask_all())


def look_through_entry(
    service: Service, credentials: Credentials | None = None, secrets: Sequence[str] = ()
) -> list[Look]:
    """
    Ask each node for the entry's page, then the entry as users do, by its own name: the last look.

    :param credentials: HTTP basic login of the entry
    :param secrets: what must not be shown
    :raises CheckFailed: the CA file cannot be read
    """
    entry = service.entry

    async def ask_all() -> list[Look]:
        address = Address.of(entry.url, entry.path)
        async with asking(ca_file=entry.ca_file, credentials=credentials) as asker:
            nodes = [_entry(asker, service, n.name, address.pinned(n.entry), secrets) for n in service.router.nodes]
            return await _all(
                [*nodes, _entry(asker, service, f"{address.url.host}, as users reach it", address, secrets)]
            )

    return asyncio.run(ask_all())


async def _all(looks: Sequence[Awaitable[Look]]) -> list[Look]:
    return list(await asyncio.gather(*looks))


async def _target(asker: Asker, service: Service, color: Color, target: str, secrets: Sequence[str]) -> Look:
    address, health = Address.of(target, service.health.path), service.health
    asked = Look(shown(target), shown(str(address.url)), color)
    try:
        answer = await asker.ask(address, health.timeout)
    except NoAnswer as none:
        return _none(asked, none, secrets)
    found = _answered(asked, answer, secrets)
    if answer.status != health.status or health.version is None:
        return found
    with suppress(ValueError):
        return replace(found, version=excerpt(masked(version_in(answer.text, health.version), secrets)))
    return found


async def _entry(asker: Asker, service: Service, where: str, address: Address, secrets: Sequence[str]) -> Look:
    key, url = token_hex(8), address.url
    asked = Look(where, shown(str(url)))
    fresh = replace(address, url=url.update_query({STICKY_KEY: key}))
    headers = {"Cookie": f"{service.router.client_cookie or STICKY_KEY}={key}", "Cache-Control": "no-cache"}
    try:
        answer = await asker.ask(fresh, ENTRY_TIMEOUT, headers=headers)
    except NoAnswer as none:
        return _none(asked, none, secrets)
    named = ", ".join(answer.headers.getall(service.entry.color_header, []))
    return replace(_answered(asked, answer, secrets), served=excerpt(masked(named, secrets)) or None)


def _answered(asked: Look, answer: Answer, secrets: Sequence[str]) -> Look:
    # Masked whole, then cut: half a secret is not recognised as one.
    body = excerpt(masked(answer.text[:LONGEST_TEXT], secrets))
    return replace(asked, status=answer.status, ms=answer.ms, body=body)


def _none(asked: Look, none: NoAnswer, secrets: Sequence[str]) -> Look:
    return replace(asked, kind=none.kind, error=excerpt(masked(none.detail, secrets)))
