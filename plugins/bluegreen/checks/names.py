"""What each configured DNS server answers for a name, with the time to live, and what this host makes of it."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import dns.asyncresolver
import dns.exception
import dns.nameserver
import dns.resolver

TIMEOUT = 3.0
"""Seconds that a server has for one name."""
THIS_HOST = "this host"
Server = tuple[str, int]


@dataclass(frozen=True)
class NameAnswer:
    """
    One server's answer for one name.

    :param name: what was asked for
    :param server: its address, or ``this host`` for what programs here get, /etc/hosts included
    :param addresses: in the order of their text
    :param ttl: seconds that others may keep the answer; None where nobody says
    :param error: why there is no address
    """

    name: str
    server: str
    addresses: tuple[str, ...] = ()
    ttl: int | None = None
    error: str = ""

    def __str__(self) -> str:
        kept = "" if self.ttl is None else f", TTL {self.ttl} s"
        return f"{self.name} by {self.server}: {self.error or ', '.join(self.addresses) + kept}"


def servers() -> list[Server]:
    """
    Return the DNS servers of this host, address and port.

    :raises dns.resolver.NoResolverConfiguration: it names none
    """
    return [(str(address), 53) for address in dns.resolver.Resolver().nameservers]


def is_name(host: str) -> bool:
    """Tell whether a host is a name: an address needs no DNS."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return host != "localhost"
    return False


def ask_names(hosts: Iterable[str], timeout: float = TIMEOUT) -> list[NameAnswer]:
    """
    Ask every server, and this host, for every name at the same time; addresses are left out. Raises nothing of its own.

    :param timeout: seconds for one answer
    """
    names = [host for host in dict.fromkeys(hosts) if is_name(host)]
    if not names:
        return []
    try:
        known, unknown = servers(), []
    except dns.exception.DNSException as error:
        known, unknown = [], [NameAnswer(name, "DNS", error=f"no server is configured: {error}") for name in names]

    async def ask_all() -> list[NameAnswer]:
        asked = [_ask(name, server, timeout) for name in names for server in known]
        return list(await asyncio.gather(*asked, *(_here(name, timeout) for name in names)))

    return unknown + asyncio.run(ask_all())


async def _ask(name: str, server: Server, timeout: float) -> NameAnswer:  # noqa: ASYNC109 - the resolver's own
    resolver = dns.asyncresolver.Resolver()
    resolver.nameservers = [dns.nameserver.Do53Nameserver(*server)]
    resolver.lifetime = timeout
    shown = server[0] if server[1] == 53 else f"{server[0]}:{server[1]}"
    try:
        both = await asyncio.gather(*(_one(resolver, name, kind) for kind in ("A", "AAAA")))
    except (dns.exception.DNSException, OSError) as error:
        return NameAnswer(name, shown, error=_words(error, timeout))
    found = [answer for answer in both if answer]
    if not found:
        return NameAnswer(name, shown, error="knows the name, but no address")
    addresses = sorted(str(record) for answer in found for record in answer)
    ttls = [rrset.ttl for answer in found for rrset in answer.response.answer]
    return NameAnswer(name, shown, tuple(addresses), min(ttls))


async def _one(resolver: dns.asyncresolver.Resolver, name: str, kind: str) -> dns.resolver.Answer | None:
    try:
        return await resolver.resolve(name, kind, search=True)
    except dns.resolver.NoAnswer:
        return None


def _words(error: Exception, timeout: float) -> str:
    if isinstance(error, dns.resolver.NXDOMAIN):
        return "there is no such name"
    if isinstance(error, dns.exception.Timeout):
        return f"no answer within {timeout:g} s"
    return " ".join(str(error).split())[:200] or type(error).__name__


async def _here(name: str, timeout: float) -> NameAnswer:  # noqa: ASYNC109 - as above
    try:
        asked = asyncio.get_running_loop().getaddrinfo(name, None, type=socket.SOCK_STREAM)
        found = await asyncio.wait_for(asked, timeout)
    except TimeoutError:
        return NameAnswer(name, THIS_HOST, error=f"no answer within {timeout:g} s")
    except OSError as error:
        return NameAnswer(name, THIS_HOST, error=(error.strerror or str(error)).lower())
    return NameAnswer(name, THIS_HOST, tuple(sorted({str(entry[4][0]) for entry in found})))


def differing(answers: Sequence[NameAnswer]) -> list[str]:
    """Return the names for which not all DNS servers that answer say the same."""
    said: dict[str, set[tuple[str, ...]]] = {}
    for answer in answers:
        if answer.server != THIS_HOST and not answer.error.startswith("no "):
            said.setdefault(answer.name, set()).add(answer.addresses)
    return [name for name, addresses in said.items() if len(addresses) > 1]
