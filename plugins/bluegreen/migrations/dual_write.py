"""
Dual writes: the three files of a column that gets a new name, or becomes several, while both versions write.

Expand adds the new columns and two triggers that fill whichever side a version did not write; the backfill brings old
rows up; contract takes triggers and old column away. The triggers only assign to the row at hand and write no table,
so that they cannot call themselves; their names are last in the alphabet, so that they see what others made of a row.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import yaml

from bluegreen.core.errors import MigrationRefused

_LONGEST = 63
"""Bytes of a name in PostgreSQL; of a longer one it would silently keep the beginning."""
_NO_EQUALITY = {"json", "xml", "point", "box", "polygon", "path"}

_EXPAND = """\
-- {title}: both versions write, each its own side. Made by bluegreen; needs PostgreSQL 14.
ALTER TABLE {table}
{columns};

CREATE OR REPLACE FUNCTION {function}() RETURNS trigger
LANGUAGE plpgsql SET search_path FROM CURRENT AS $bluegreen$
BEGIN
    IF TG_OP = 'INSERT' THEN
        -- Only the new version knows the new side: what stands there was meant, also over the old side's default.
        IF {any_new} THEN
            NEW.{old} := {to_old};
        ELSE
{fill_new}
        END IF;
    ELSIF {new_changed} THEN
        -- A row that the backfill has not come to yet: what the new version left alone is still in the old side.
        IF {none_before} THEN
{fill_untouched}
        END IF;
        NEW.{old} := {to_old};
    ELSE
{fill_changed}
    END IF;
    RETURN NEW;
END
$bluegreen$;

CREATE OR REPLACE TRIGGER {on_insert} BEFORE INSERT ON {table}
FOR EACH ROW EXECUTE FUNCTION {function}();

CREATE OR REPLACE TRIGGER {on_update} BEFORE UPDATE ON {table}
FOR EACH ROW WHEN (({changed}) AND current_setting('bluegreen.backfill', true) IS DISTINCT FROM 'on')
EXECUTE FUNCTION {function}();
"""
_CONTRACT = """\
-- {title}: the old side goes. In this order the new version can write after each statement. Made by bluegreen.
ALTER TABLE {table} ALTER COLUMN {old} DROP NOT NULL;
DROP TRIGGER IF EXISTS {on_update} ON {table};
DROP TRIGGER IF EXISTS {on_insert} ON {table};
DROP FUNCTION IF EXISTS {function}();
ALTER TABLE {table} DROP COLUMN {old};
"""


@dataclass(frozen=True)
class Files:
    """The texts of ``0001_names.expand.sql``, ``.backfill.yaml`` and ``.contract.sql``."""

    expand: str
    backfill: str
    contract: str


@dataclass(frozen=True)
class _Change:
    """
    One old column and its new ones.

    :param new: type by column
    :param to_new: SQL by column, of the old value ``{}``
    :param to_old: SQL of the new values ``{0}``, ``{1}``
    """

    title: str
    table: str
    old: str
    new: Mapping[str, str]
    to_new: Mapping[str, str]
    to_old: str


def rename(table: str, old: str, new: str, kind: str, *, key: str | Sequence[str] = "id") -> Files:
    """
    Return the files of a column that gets another name.

    :param kind: the column's type, as SQL has it
    :param key: column or columns of a unique key, for the backfill
    :raises MigrationRefused: names that are one, or a type that has no equality
    """
    change = _Change(f"{table}.{old} becomes {new}", table, old, {new: kind}, {new: "{}"}, "{0}")
    return _files(change, key)


def split(table: str, old: str, new: tuple[str, str], *, key: str | Sequence[str] = "id") -> Files:
    """
    Return the files of a text that becomes two: what is before its first space, and what is behind it.

    :param new: the two columns; joined with a space they are the old text again, always
    :param key: column or columns of a unique key, for the backfill
    :raises MigrationRefused: names that are one
    """
    first, last = new
    to_new = {
        first: "CASE WHEN strpos({0}, ' ') = 0 THEN {0} ELSE left({0}, strpos({0}, ' ') - 1) END",
        last: "CASE WHEN strpos({0}, ' ') > 0 THEN substr({0}, strpos({0}, ' ') + 1) END",
    }
    to_old = "CASE WHEN {0} IS NOT NULL OR {1} IS NOT NULL THEN concat_ws(' ', {0}, {1}) END"
    change = _Change(
        f"{table}.{old} becomes {first} and {last}", table, old, dict.fromkeys(new, "text"), to_new, to_old
    )
    return _files(change, key)


def _files(change: _Change, key: str | Sequence[str]) -> Files:
    _checked(change)
    words = _words(change)
    return Files(_EXPAND.format(**words), _backfill(change, key), _CONTRACT.format(**words))


def _checked(change: _Change) -> None:
    names = [change.old, *change.new]
    if len(set(names)) < len(names):
        fact = f"found {', '.join(names)}: a column stands twice"
        raise MigrationRefused(fact, part=change.table, next_step="give old and new columns names of their own")
    for column, kind in change.new.items():
        if kind.strip().lower() in _NO_EQUALITY:
            fact = f"found type {kind}, which has no equality: no trigger could tell whether it changed"
            raise MigrationRefused(fact, part=f"{change.table}.{column}", next_step="jsonb has one; text has one")


def _words(change: _Change) -> dict[str, str]:
    old, new = _quoted(change.old), [_quoted(column) for column in change.new]
    base = f"{change.table.rpartition('.')[2]}_{change.old}"
    schema = f"{_quoted(change.table.partition('.')[0])}." if "." in change.table else ""
    pairs = dict(zip(new, change.to_new.values(), strict=True))
    return {
        "title": change.title,
        "table": _qualified(change.table),
        "old": old,
        "columns": ",\n".join(
            f"    ADD COLUMN IF NOT EXISTS {_quoted(column)} {kind}" for column, kind in change.new.items()
        ),
        "function": schema + _quoted(_short(f"bluegreen_sync_{base}")),
        "on_insert": _quoted(_short(f"zz_bluegreen_insert_{base}")),
        "on_update": _quoted(_short(f"zz_bluegreen_update_{base}")),
        "any_new": " OR ".join(f"NEW.{column} IS NOT NULL" for column in new),
        "none_before": " AND ".join(f"OLD.{column} IS NULL" for column in new),
        "new_changed": " OR ".join(f"NEW.{column} IS DISTINCT FROM OLD.{column}" for column in new),
        "changed": " OR ".join(f"NEW.{column} IS DISTINCT FROM OLD.{column}" for column in [old, *new]),
        "to_old": change.to_old.format(*(f"NEW.{column}" for column in new)),
        "fill_new": _lines(f"NEW.{column} := {to.format(f'NEW.{old}')};" for column, to in pairs.items()),
        "fill_changed": _lines((f"NEW.{column} := {to.format(f'NEW.{old}')};" for column, to in pairs.items()), 8),
        "fill_untouched": _lines(
            f"IF NEW.{column} IS NULL THEN NEW.{column} := {to.format(f'OLD.{old}')}; END IF;"
            for column, to in pairs.items()
        ),
    }


def _lines(statements: Iterable[str], indent: int = 12) -> str:
    return "\n".join(" " * indent + one for one in statements)


def _backfill(change: _Change, key: str | Sequence[str]) -> str:
    old, new = _quoted(change.old), [_quoted(column) for column in change.new]
    joined = change.to_old.format(*new)
    told = {
        "table": change.table,
        "key": key if isinstance(key, str) else list(key),
        "set": {column: to.format(old) for column, to in change.to_new.items()},
        "where": " AND ".join([*(f"{column} IS NULL" for column in new), f"{old} IS NOT NULL"]),
        "drift": f"SELECT count(*) FROM {_qualified(change.table)} WHERE {old} IS DISTINCT FROM {joined}",  # noqa: S608
    }
    return f"# {change.title}. Made by bluegreen.\n" + yaml.safe_dump(told, sort_keys=False, width=1000)


def _short(name: str) -> str:
    """Keep a name whole where it fits; else its beginning, and what tells it from others."""
    raw = name.encode()
    if len(raw) <= _LONGEST:
        return name
    return f"{raw[: _LONGEST - 9].decode(errors='ignore')}_{hashlib.sha256(raw).hexdigest()[:8]}"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _qualified(table: str) -> str:
    return ".".join(_quoted(word) for word in table.split("."))
