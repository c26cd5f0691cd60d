"""A SELECT that gives one row of counts a color, through SQLAlchemy."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from bluegreen.analysis.counted import EMPTY, CountedUntil, Told, count_of, count_until, each, refuse
from bluegreen.analysis.counted_thread import ThreadCounts
from bluegreen.catalog.sources import SqlCounts
from bluegreen.core.colors import Color
from bluegreen.core.errors import CheckFailed, SecretMissing
from bluegreen.core.ports import Credentials

_NOT_UNDERSTOOD = ("no such ", "syntax error")
"""What SQLite says of a wrong query, which it tells as an error of the operation."""


class SqlCountSource(ThreadCounts[SqlCounts]):
    """See ``counted.py``. Nothing is committed; PostgreSQL is told the time-out, too."""

    who = "the database"

    def connect(self, credentials: Credentials | None) -> tuple[Any, tuple[str, ...]]:
        """See ``ThreadCounts``."""
        try:
            import sqlalchemy  # noqa: PLC0415 - only who has such a source needs it

            url = sqlalchemy.make_url(credentials.password if credentials else "")
            engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool)
        except ImportError as error:
            raise CheckFailed(
                f"{error.name} is not installed",
                part=f"source {self.section.name}",
                next_step="install sqlalchemy and the driver of the URL, like psycopg",
            ) from error
        except sqlalchemy.exc.ArgumentError:
            raise SecretMissing(
                "its password is no SQLAlchemy URL",
                part=f"connection {self.section.connection}",
                next_step="write the whole URL there, like postgresql+psycopg://user:password@host/database",
            ) from None  # SQLAlchemy's own error may quote it
        return engine, tuple(word for word in (url.render_as_string(hide_password=False), url.password) if word)

    def ask(self, client: Any, colors: tuple[Color, ...], since: datetime, until: datetime) -> Told:
        """See ``ThreadCounts``."""
        return each(colors, lambda color: self._one(client, color, since, until))

    def _one(self, engine: Any, color: Color, since: datetime, until: datetime) -> CountedUntil:
        from sqlalchemy.exc import DBAPIError, ProgrammingError, SQLAlchemyError  # noqa: PLC0415

        try:
            rows = self._rows(engine, color, since, until)
        except DBAPIError as error:
            said = str(error.orig)
            refused = isinstance(error, ProgrammingError) or any(word in said for word in _NOT_UNDERSTOOD)
            refuse(f"{self.who} says {said}", query=refused)
        except SQLAlchemyError as error:
            refuse(f"{self.who}: {error}", query=True)
        if not rows:
            refuse(EMPTY)
        if len(rows) > 1:
            refuse("several rows, wanted one: count in the query")
        return self._counted(rows[0], until)

    def _rows(self, engine: Any, color: Color, since: datetime, until: datetime) -> list[Mapping[str, Any]]:
        from sqlalchemy import DateTime, bindparam, text  # noqa: PLC0415

        query = self.section.query
        times = [name for name in ("since", "until") if f":{name}" in query]
        asked = text(query).bindparams(*(bindparam(name, type_=DateTime(timezone=True)) for name in times))
        values = {"color": str(color), "since": since.astimezone(UTC), "until": until.astimezone(UTC)}
        with engine.connect() as connection:
            if engine.dialect.name == "postgresql":
                limit = int(self.section.timeout.total_seconds() * 1000)
                connection.execute(text(f"SET LOCAL statement_timeout = {limit}"))
            found = connection.execute(asked, {name: values[name] for name in ("color", *times)})
            return [dict(row) for row in found.mappings().fetchmany(2)]

    def _counted(self, row: Mapping[str, Any], until: datetime) -> CountedUntil:
        if missing := [name for name in ("requests", "errors") if name not in row]:
            refuse(f"the row has no column {' and '.join(missing)}, it has {', '.join(row)}", query=True)
        if row["requests"] is None or row.get("latest", until) is None:
            refuse(EMPTY)
        requests, errors = (_plain(row[name]) for name in ("requests", "errors"))
        if "latest" not in row and count_of(requests, "requests") == 0:
            refuse(EMPTY)
        return count_until(requests, 0 if errors is None else errors, _time(row.get("latest", until)))


def _plain(value: Any) -> Any:
    return value if value is None or isinstance(value, str) else float(value)  # a sum may be a Decimal


def _time(value: Any) -> datetime:
    try:
        if isinstance(value, int | float):
            return datetime.fromtimestamp(value, UTC)
        at = value if isinstance(value, datetime) else datetime.fromisoformat(value)
    except (TypeError, ValueError, OverflowError):
        refuse(f"latest is {value!r}, wanted a time")
    return at if at.tzinfo else at.replace(tzinfo=UTC)
