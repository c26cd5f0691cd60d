"""The file of a backfill, ``0001_names.backfill.yaml``: which rows of which table get what, and when it is done."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from bluegreen.catalog import yaml_text
from bluegreen.catalog.section import Section
from bluegreen.catalog.sentences import problems_of
from bluegreen.core.errors import MigrationRefused
from bluegreen.migrations.ports import Migration

Column = Annotated[str, Field(min_length=1)]
Sql = Annotated[str, Field(min_length=1)]


def _as_columns(value: Any) -> Any:
    """Take one name as a list of one; strict reading wants a tuple from here."""
    if isinstance(value, str) and value:
        return (value,)
    return tuple(value) if isinstance(value, list) else value


class BackfillFile(Section):
    """What a backfill does."""

    table: str = Field(
        pattern=r"^[^.\s]+(\.[^.\s]+)?$", description="its name, with its schema where needed", examples=["users"]
    )
    key: Annotated[tuple[Column, ...], BeforeValidator(_as_columns)] = Field(
        min_length=1, description="column or list of columns by which rows are gone through; unique", examples=["id"]
    )
    set: dict[Column, Sql] = Field(min_length=1, description="SQL expression by column", examples=["{full_name: name}"])
    where: Sql = Field(description="SQL condition of rows still to do", examples=["full_name IS NULL"])
    drift: Sql = Field(
        description="query of one number, which must be 0 in the end",
        examples=["SELECT count(*) FROM users WHERE full_name IS DISTINCT FROM name"],
    )
    batch: int | None = Field(None, ge=1, le=100_000, description="rows a transaction, instead of the service file's")

    @model_validator(mode="after")
    def _leaves_the_key(self) -> BackfillFile:
        both = sorted(self.set.keys() & set(self.key))
        if both:
            raise ValueError(f"set changes {', '.join(both)} of the key, by which rows are gone through")
        if len(set(self.key)) < len(self.key):
            raise ValueError("key names a column twice")
        return self


def read(migration: Migration) -> BackfillFile:
    """
    Read a backfill's file.

    :raises MigrationRefused: with each problem: file, line, key, found, allowed
    """
    if not migration.sql.strip():
        raise _refused(migration, 0, "the file is empty", "write table, key, set, where and drift")
    document = yaml_text.read_document(migration.sql.encode())
    # A column may be called token; what is set is an expression.
    problems = [one for one in document.problems if not (one.path[:1] == ("set",) and one.path in document.secrets)]
    document.secrets.clear()
    file: BackfillFile | None = None
    if document.as_json is not None:
        try:
            file = BackfillFile.model_validate_json(document.as_json, strict=True)
        except ValidationError as error:
            schema = BackfillFile.model_json_schema()
            problems += problems_of(error.errors(include_url=False), document, schema)
    if problems or file is None:
        raise _together(migration, sorted(problems, key=lambda one: one.line))
    _parsed(migration, file)
    return file


def _parsed(migration: Migration, file: BackfillFile) -> None:
    """Ask PostgreSQL's own parser, so that no expression ends the statement that it stands in."""
    texts = {f"set.{column}": f"SELECT (\n{text}\n)" for column, text in file.set.items()}
    texts |= {"where": f"SELECT (\n{file.where}\n)", "drift": file.drift}
    for key, text in texts.items():
        if reason := _amiss(text):
            wanted = "one SELECT" if key == "drift" else "one SQL expression"
            raise _refused(migration, _line(migration, key), f"found {reason}, wanted {wanted}", "try it in psql", key)


def _amiss(text: str) -> str:
    from pglast import ast, parse_sql  # noqa: PLC0415 - a DAG file's parse needs no parser of SQL
    from pglast.parser import ParseError  # noqa: PLC0415

    try:
        found = parse_sql(text)
    except ParseError as error:
        return f"what is no valid SQL: {error.args[0]}"
    if len(found) != 1:
        return f"{len(found)} statements"
    return "" if isinstance(found[0].stmt, ast.SelectStmt) else type(found[0].stmt).__name__


def _line(migration: Migration, key: str) -> int:
    first = f"{key.rpartition('.')[2]}:"
    numbered = enumerate(migration.sql.splitlines(), 1)
    return next((number for number, line in numbered if line.strip().startswith(first)), 0)


def _together(migration: Migration, problems: Iterable[yaml_text.Problem]) -> MigrationRefused:
    single = [_refused(migration, one.line, one.fact, one.next_step, _key(one.path)) for one in problems]
    if len(single) == 1:
        return single[0]
    text = "".join(f"\n  {problem}" for problem in single)
    return MigrationRefused(f"{len(single)} problems{text}", part=migration.name, next_step="")


def _key(path: yaml_text.Path) -> str:
    return ".".join(str(part) for part in path)


def _refused(migration: Migration, line: int, fact: str, next_step: str, key: str = "") -> MigrationRefused:
    place = f"{migration.name}:{line}" if line else migration.name
    return MigrationRefused(fact, part=f"{place}: {key}" if key else place, next_step=next_step)
