"""
The one place that makes requests: bounded, never following a redirect, pinned to an address where the caller says so.

Pinning rewrites the request's address and keeps the entry's own name in Host and SNI. A resolver of our own would not
do: aiohttp does not ask the resolver when the entry is an IP address, so that every node would be the same one.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from base64 import b64encode
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from bluegreen.core.errors import CheckFailed
from bluegreen.core.masks import without
from bluegreen.core.ports import Credentials

T = TypeVar("T")

LONGEST_BODY = 4 * 1024 * 1024
"""Bytes of an answer that are read; a test that needs more is no smoke test."""
LONGEST_EXCERPT = 200
"""Characters of a foreign text that an error quotes."""
AGENT = "bluegreen-check"
TIMEOUT = "timeout"

# The order counts: each name stands before those that it is also an instance of.
_KINDS: Sequence[tuple[type[BaseException], str]] = (
    (TimeoutError, TIMEOUT),
    (aiohttp.ClientSSLError, "tls"),
    (ssl.SSLError, "tls"),
    (aiohttp.ClientConnectorError, "no connection"),
    (aiohttp.ClientConnectionError, "broken connection"),
    (aiohttp.ClientPayloadError, "broken connection"),
    (OSError, "broken connection"),
    (aiohttp.ClientError, "no http"),
)


class NoAnswer(Exception):
    """
    A request got no whole answer.

    :param kind: ``timeout``, ``tls``, ``no connection``, ``broken connection`` or ``no http``
    :param detail: one line for people
    """

    def __init__(self, kind: str, detail: str) -> None:
        self.kind, self.detail = kind, detail
        super().__init__(f"{kind}: {detail}" if detail else kind)


@dataclass(frozen=True)
class Answer:
    """
    What came back.

    :param status: HTTP status
    :param headers: response headers, names in any case
    :param body: the first ``LONGEST_BODY`` bytes
    :param ms: milliseconds from the first byte of ours to the last byte of theirs, connecting included
    """

    status: int
    headers: CIMultiDictProxy[str]
    body: bytes
    ms: float

    @property
    def text(self) -> str:
        """The body as text; bytes that are none are replaced."""
        return self.body.decode(errors="replace")

    @property
    def said(self) -> str:
        """Status and body, to be quoted through ``Asker.excerpt``."""
        return f"{self.status}: {self.text}" if self.body else f"{self.status} with an empty body"


@dataclass(frozen=True)
class Address:
    """
    Where a request goes, and under which name.

    :param url: what is connected to
    :param host: the name that is sent as Host; None for the address's own
    :param sni: the name that TLS asks for and checks; None for the address's own
    """

    url: URL
    host: str | None = None
    sni: str | None = None

    @classmethod
    def of(cls, base: str, path: str) -> Address:
        """A path below an address, as it stands in the catalog."""
        return cls(URL(f"{base.rstrip('/')}/{path.lstrip('/')}"))

    def pinned(self, node: str) -> Address:
        """Return the same request, sent to a node (``host:port``) under the entry's name."""
        host, _, port = node.rpartition(":")
        url = self.url.with_host(host.strip("[]")).with_port(int(port))
        return Address(url, self.url.host_port_subcomponent, self.url.host)


@dataclass(frozen=True)
class Asker:
    """
    Makes requests over one session.

    :param session: from ``asking``
    :param secrets: what must not be quoted, whoever echoes it
    """

    session: aiohttp.ClientSession
    headers: Mapping[str, str]
    secrets: tuple[str, ...] = field(repr=False)

    async def ask(
        self,
        address: Address,
        timeout: timedelta,  # noqa: ASYNC109 - aiohttp's own, which also ends a body that trickles
        *,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        body: str | None = None,
    ) -> Answer:
        """
        Send one request and read its answer.

        :param timeout: from connecting to the last byte
        :raises NoAnswer: there was none, or not a whole one
        """
        options: dict[str, Any] = {"server_hostname": address.sni} if address.sni else {}
        sent = CIMultiDict(self.headers)  # a test's own "authorization" replaces ours, whatever its case
        sent.update({"Host": address.host} if address.host else {})
        sent.update(headers or {})
        limit = aiohttp.ClientTimeout(total=timeout.total_seconds())
        start = time.perf_counter()
        try:
            async with self.session.request(
                method, address.url, headers=sent, data=body, timeout=limit, allow_redirects=False, **options
            ) as response:
                read = await _read(response)
                return Answer(response.status, response.headers, read, _ms_since(start))
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise NoAnswer(_kind(error), self.excerpt(_detail(error, timeout))) from None  # its own text is not masked

    def excerpt(self, text: str) -> str:
        """Return a foreign text as an error may quote it: one line, short, without secrets."""
        return excerpt(text, self.secrets)


def excerpt(text: str, secrets: Iterable[str] = ()) -> str:
    """Return a foreign text on one line, without secrets, cut to ``LONGEST_EXCERPT`` characters."""
    line = " ".join(without(text, secrets).split())
    return line if len(line) <= LONGEST_EXCERPT else line[: LONGEST_EXCERPT - 1] + "…"


def shown(address: str) -> str:
    """Return an address as errors may show it: without a user and password in it."""
    url = URL(address)
    return str(url.with_user(None)) if url.user or url.password else address


class asking:  # noqa: N801 - used as a verb: ``async with asking(...) as asker``
    """
    Open a session: ``async with asking(...) as asker``.

    :param concurrency: connections at one time
    :param ca_file: own certificate authority instead of the system's
    :param credentials: sent with each request: HTTP basic, or, without a login, the password as bearer token
    :param keep_alive: reuse connections; each request has its own otherwise
    :raises CheckFailed: the CA file cannot be read
    """

    def __init__(
        self,
        *,
        concurrency: int = 16,
        ca_file: Path | None = None,
        credentials: Credentials | None = None,
        keep_alive: bool = False,
    ) -> None:
        self._concurrency, self._keep_alive, self._credentials = concurrency, keep_alive, credentials
        self._tls: ssl.SSLContext | bool = _tls(ca_file) if ca_file else True

    async def __aenter__(self) -> Asker:
        connector = aiohttp.TCPConnector(
            force_close=not self._keep_alive, limit=self._concurrency, ssl=self._tls, ttl_dns_cache=60
        )
        self._session = aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())
        # aiohttp sends a GET once more when its connection breaks, also when that was a fresh one, and tells nobody:
        # the broken request of a user would not be seen. There is no public switch; a test holds this one.
        self._session._retry_connection = self._keep_alive  # noqa: SLF001
        headers = {"User-Agent": AGENT} | ({} if self._keep_alive else {"Connection": "close"})
        if self._credentials is None:
            return Asker(self._session, headers, ())
        scheme, token = _authorization(self._credentials)
        return Asker(
            self._session, headers | {"Authorization": f"{scheme} {token}"}, _to_hide(self._credentials, token)
        )

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()


async def gathered(work: Iterable[Awaitable[T]], concurrency: int) -> list[T]:
    """Await all, so many at a time; results in the order given."""
    free = asyncio.Semaphore(concurrency)

    async def one(job: Awaitable[T]) -> T:
        async with free:
            return await job

    return await asyncio.gather(*(one(job) for job in work))


async def _read(response: aiohttp.ClientResponse) -> bytes:
    parts, left = [], LONGEST_BODY
    while left > 0 and (part := await response.content.read(left)):
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


def _tls(ca_file: Path) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as error:
        raise CheckFailed(
            f"ca_file {ca_file} cannot be read: {error}", part="entry", next_step="name a PEM file that is there"
        ) from error


def _authorization(credentials: Credentials) -> tuple[str, str]:
    if not credentials.login:
        return "Bearer", credentials.password
    return "Basic", b64encode(f"{credentials.login}:{credentials.password}".encode()).decode()


def _to_hide(credentials: Credentials, token: str) -> tuple[str, ...]:
    return tuple(secret for secret in (token, credentials.password) if secret)


def _kind(error: BaseException) -> str:
    return next((kind for known, kind in _KINDS if isinstance(error, known)), "no http")


def _detail(error: BaseException, timeout: timedelta) -> str:
    if isinstance(error, TimeoutError):
        return f"no whole answer within {timeout.total_seconds():g} s"
    return str(error) or type(error).__name__


def _ms_since(start: float) -> float:
    return (time.perf_counter() - start) * 1000
