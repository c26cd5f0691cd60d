"""What every kind's check of a node does: name what it found, and send one real request to the node's entry."""

from __future__ import annotations

import http.client
import socket
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol
from urllib.parse import urlsplit

from bluegreen.catalog import models
from bluegreen.core.colors import Color
from bluegreen.core.ports import Finding

REQUEST_TIMEOUT = 2.0
HERE = socket.gethostname()
Level = Literal["error", "warning"]


class Named(Protocol):
    """From where a node is looked at."""

    @property
    def name(self) -> str:
        """How findings call it."""
        ...


@dataclass(frozen=True)
class NodeCheck:
    """
    The check of one node.

    :param service: name in the catalog
    :param name: the node's
    :param entry: the service's, for the real request; without it none is sent
    :param place: where the node's files and its proxy are looked at
    """

    service: str
    name: str
    entry: models.Entry | None
    place: Named

    mend_redirect: ClassVar[str]
    mend_color: ClassVar[str]

    def finding(self, code: str, fact: str, mend: str, level: Level = "error", seen_from: str | None = None) -> Finding:
        """Say what was found on this node, and from where: its place, unless ``seen_from`` says another."""
        where = f"{self.service}: {self.name}, seen from {seen_from or self.place.name}"
        return Finding(code, level, where, fact, mend)

    def proof_request(self, address: str) -> Iterator[Finding]:
        """Ask the node's entry once, as a proof does."""
        entry = self.entry
        if entry is None:
            return
        try:
            status, headers = _get(entry, address)
        except (OSError, http.client.HTTPException) as error:
            fact = f"GET {entry.path} got no answer from the entry {address}: {error}"
            mend = "see the address that it listens on, and `entry` of the node"
            yield self.finding("entry-does-not-answer", fact, mend, seen_from=HERE)
            return
        if 300 <= status < 400:
            fact = f"GET {entry.path} at {address} is answered with {status} to {headers.get('location')}"
            mend = (
                f"name the https port as the node's `entry` and https in entry.url, or take `path {entry.path}` out: "
            )
            mend += self.mend_redirect.format(path=entry.path)
            yield self.finding("redirect", f"{fact}: a proof would see no color", mend, seen_from=HERE)
        elif (found := headers.get(entry.color_header.lower())) not in list(Color):
            fact = f"GET {entry.path} at {address} got {status} with {entry.color_header}: {found}, wanted a color"
            mend = self.mend_color.format(header=entry.color_header)
            yield self.finding("no-color-header", fact, mend, seen_from=HERE)


def _get(entry: models.Entry, address: str) -> tuple[int, Mapping[str, str]]:
    """Send one real request for the entry's name to a node's address."""
    url = urlsplit(entry.url)
    host, _, port = address.rpartition(":")
    connection = http.client.HTTPConnection(host.strip("[]"), int(port), timeout=REQUEST_TIMEOUT)
    try:
        connection.connect()
        if url.scheme == "https":
            context = ssl.create_default_context(cafile=entry.ca_file)
            connection.sock = context.wrap_socket(connection.sock, server_hostname=url.hostname)
        connection.request("GET", entry.path, headers={"Host": url.netloc, "Connection": "close"})
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.headers.items()}
    finally:
        connection.close()
