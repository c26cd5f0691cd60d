"""The memory world's service with a real database: its migration files, what is in it, and what was said."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bluegreen.catalog.models import Service
from bluegreen.core.ports import Credentials
from tests.rigs.postgres import Postgres
from tests.unit.release.world import SERVICE

SCHEMA = "CREATE TABLE users (id bigint PRIMARY KEY, name text); INSERT INTO users SELECT g, 'n' || g FROM generate_series(1, 50) g"
EXPAND = "ALTER TABLE users ADD COLUMN full_name text;\n"
BACKFILL = """\
table: users
key: id
set: {full_name: name}
where: full_name IS NULL
drift: SELECT count(*) FROM users WHERE full_name IS DISTINCT FROM name
"""
CONTRACT = "ALTER TABLE users DROP COLUMN name;\n"
QUICK = {"lock_timeout": "100ms", "statement_timeout": "2s", "retry_for": "1s"}


@dataclass
class ShopDatabase:
    """
    One service with a database of its own.

    :param settings: of the section ``migrations``
    :param said: what was logged
    :param more: other sections of the service file
    """

    server: Postgres
    folder: Path
    name: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)
    more: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.name = self.name or self.server.database()
        self.folder.mkdir(exist_ok=True)
        self.sql(SCHEMA)

    def secrets(self, _: str) -> Credentials:
        return self.server.credentials()

    def write(self, **texts: str) -> None:
        """Write migration files: ``_0001_names_expand`` is ``0001_names.expand.sql``."""
        for name, text in texts.items():
            stem, _, phase = name.strip("_").rpartition("_")
            (self.folder / f"{stem}.{phase}.{'yaml' if phase == 'backfill' else 'sql'}").write_text(text)

    def service(self) -> Service:
        """Return the service, validated as a file would be."""
        section = {
            "database": {"connection": "shop_db", "name": self.name},
            "tool": {"type": "sql", "folder": str(self.folder)},
            **QUICK,
            **self.settings,
        }
        return Service.model_validate(SERVICE.frozen() | {"migrations": section} | self.more)

    def sql(self, text: str, *values: Any) -> list[tuple[Any, ...]]:
        """Execute something as the superuser."""
        with self.server.connect(self.name) as connection:
            cursor = connection.execute(text, values or None)
            return cursor.fetchall() if cursor.description else []

    def tables(self) -> set[str]:
        return {row[0] for row in self.sql("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")}

    def columns(self) -> list[str]:
        query = (
            "SELECT column_name FROM information_schema.columns WHERE table_name = 'users' ORDER BY ordinal_position"
        )
        return [row[0] for row in self.sql(query)]


VERSIONS = {"127.0.0.1": "1", "127.0.0.2": "2"}
"""What runs on blue, and on green."""


class _Answers(http.server.BaseHTTPRequestHandler):
    server: Target

    def do_GET(self) -> None:
        health = self.path == "/health"
        body = json.dumps({"version": VERSIONS[self.headers["Host"].partition(":")[0]]}).encode() if health else b""
        if not health and self.server.after and self.server.after():
            self.server.status = 500
        self.send_response(200 if health else self.server.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None: ...


class Target(http.server.ThreadingHTTPServer):
    """
    Both colors' targets.

    :param status: of its answers
    :param after: asked before each; from the first yes on the status is 500
    """

    status = 200
    after: Callable[[], bool] | None = None


@contextmanager
def target(status: int = 200) -> Iterator[Target]:
    """Run targets whose answers are to be changed."""
    server = Target(("", 0), _Answers)
    server.status = status
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


def asked(server: Target) -> dict[str, Any]:
    """Return what a service file says where both colors are this target, and are smoke tested."""
    colors = zip(("blue", "green"), VERSIONS, strict=True)
    colors = {color: {"targets": [f"http://{host}:{server.server_port}"]} for color, host in colors}
    return {"colors": colors, "smoke": [{"path": "/"}]}
