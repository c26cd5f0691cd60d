"""A rig for each kind of source that counts: what it says can be set, and it can break in every way."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Self

from bluegreen.analysis.counted import CountedUntil, CountSource
from bluegreen.analysis.registry import make_count_sources
from bluegreen.catalog.sources import EvidenceSource
from bluegreen.core.colors import Color
from bluegreen.core.ports import Credentials
from tests.rigs.deploy_targets import LOOPBACK, Asked, Reply, Site, free_port, make_service
from tests.rigs.recorded_sources import RECORDED, Recorded, Says, since_until

SQL = "sql"


def source_of(section: Mapping[str, Any], credentials: Credentials | None = None) -> tuple[EvidenceSource, CountSource]:
    """Make a source as a watch does: from a service file's section."""
    targets = {color: [f"http://{color}:1"] for color in Color}
    service = make_service(targets, sources=[section])
    made = make_count_sources(service, lambda _: credentials or Credentials())
    return service.sources[0], made[service.sources[0].name]


def ask(source: CountSource, since: datetime, until: datetime, *colors: Color) -> list[CountedUntil | Exception]:
    """Ask for colors at the same time, and return counts or errors."""

    async def all_of_them() -> list[Any]:
        async with source.opened() as count:
            return await asyncio.gather(*(count(c, since, until) for c in colors), return_exceptions=True)

    return asyncio.run(all_of_them())


class HttpRig:
    """
    A kind that is asked over HTTP, before the recorded answers of its documentation.

    ``words`` are what is said of each color; ``instead`` answers in the API's place.
    """

    def __init__(self, kind: str) -> None:
        self.kind, self.api = kind, RECORDED[kind]
        self.since, self.until = since_until()
        self.words: dict[str, Says] = {"blue": Says(), "green": Says()}
        self.instead: Reply | None = None
        self.site = Site(self._reply)

    def __enter__(self) -> Self:
        self.site.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self.site.__exit__()

    @property
    def can(self) -> frozenset[str]:
        """What a test may want of it."""
        return frozenset({"http"})

    @property
    def cannot(self) -> Mapping[str, str]:
        """No-data cases that this kind cannot have, and why."""
        return self.api.cannot

    def source(self, url: str = "", **more: Any) -> CountSource:
        """Make a source that asks the rig, or another address."""
        base, api = url or self.site.url, self.api
        section = {"type": self.kind, **api.section, "connection": "c", "timeout": "30s", **more}
        section["url"] = base + str(api.section.get("url", ""))
        return source_of(section, Credentials(api.login, api.password, extra=api.extra))[1]

    def ask(self, *colors: Color, **more: Any) -> list[CountedUntil | Exception]:
        """Ask for colors at the same time."""
        return ask(self.source(**more), self.since, self.until, *colors)

    def time_of(self, color: str) -> datetime:
        """Return the time that a color's count must have."""
        return self.api.told_at(self.words[color], self.until)

    def _reply(self, asked: Asked) -> Reply:
        if self.instead:
            return self.instead
        body = self.api.answer(self.words, self.since, self.until)
        return Reply(headers={"Content-Type": "application/json"}, body=body)


class SqlRig(HttpRig):
    """SQLite, real; its query gives a table's rows as they are, so that every value can be said."""

    def __init__(self, kind: str) -> None:
        self.kind, self.api = kind, Recorded({})
        self.since, self.until = since_until()
        self.words = {"blue": Says(), "green": Says()}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...

    @property
    def can(self) -> frozenset[str]:
        return frozenset()

    def source(self, url: str = "", **more: Any) -> CountSource:
        folder = more.pop("folder")
        self._fill(folder / "counts.db")
        query = (
            "SELECT requests, errors, latest FROM counts WHERE color = :color AND latest >= :since AND latest < :until"
        )
        section = {"type": SQL, "connection": "c", "query": query, **more}
        return source_of(section, Credentials(password=f"sqlite:///{folder}/counts.db"))[1]

    def _fill(self, file: Path) -> None:
        rows = [
            (color, str(says.requests), str(says.errors), self.time_of(color).replace(tzinfo=None).isoformat(" "))
            for color, says in self.words.items()
            for _ in range(says.times)
        ]
        with sqlite3.connect(file) as database:
            database.execute("CREATE TABLE IF NOT EXISTS counts (color, requests, errors, latest)")
            database.execute("DELETE FROM counts")
            database.executemany("INSERT INTO counts VALUES (?, ?, ?, ?)", rows)


SOURCE_RIGS = dict.fromkeys(RECORDED, HttpRig) | {SQL: SqlRig}
"""Kind in the registry -> its rig."""


@contextmanager
def source_rig(kind: str) -> Iterator[HttpRig]:
    """Start the rig of a kind."""
    with SOURCE_RIGS[kind](kind) as rig:
        yield rig


def closed_address() -> str:
    """Return an address where nobody listens."""
    return f"http://{LOOPBACK}:{free_port()}"
