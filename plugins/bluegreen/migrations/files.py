"""
Migration files in a folder.

``0001_names.expand.sql``, ``0001_names.backfill.yaml`` and ``0001_names.contract.sql``; or Flyway's names, ``V1__names.sql``,
in a folder a phase. Numbers order them within a phase; files of one number and name belong together.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

from bluegreen.core.errors import MigrationRefused
from bluegreen.migrations.ports import Migration, Phase

_OWN = re.compile(
    r"^(?P<number>\d+)_(?P<title>[A-Za-z0-9_-]+)\.(?P<phase>expand|backfill|contract)\.(?P<kind>sql|yaml)$"
)
_FLYWAY = re.compile(r"^V(?P<number>\d+)__(?P<title>[A-Za-z0-9_-]+)\.(?P<kind>sql|yaml)$")
_LOOKS_LIKE = "0001_names.expand.sql, 0001_names.backfill.yaml, 0001_names.contract.sql, or expand/V1__names.sql"


def usual_folder(services: Path, service: str) -> Path:
    """
    Return where a service's plain SQL is when its file does not say.

    :param services: folder of the service files
    """
    return services.parent / "migrations" / service


def read(folder: Path) -> tuple[Migration, ...]:
    """
    Read every migration of a folder, ordered by number within each phase.

    :returns: none where the folder is not there
    :raises MigrationRefused: a name is none, two have one number, or a file cannot be read; names the file
    """
    found = sorted(_found(folder), key=lambda one: (list(Phase).index(one[1].phase), one[0]))
    for (number, one), (after, other) in pairwise(found):
        if (number, one.phase) == (after, other.phase):
            raise _refused(f"{other.name} has the number of {one.name}", folder, "give each a number of its own")
    return tuple(migration for _, migration in found)


def _found(folder: Path) -> Iterator[tuple[int, Migration]]:
    if not folder.is_dir():
        return
    for path in sorted(folder.rglob("*")):
        if path.is_dir() or path.name.startswith(".") or path.suffix not in {".sql", ".yaml", ".yml"}:
            continue
        yield _migration(path, folder)


def _migration(path: Path, folder: Path) -> tuple[int, Migration]:
    own, flyway = _OWN.match(path.name), _FLYWAY.match(path.name)
    parent = path.parent.name if path.parent != folder else ""
    if own and path.parent == folder:
        match, phase = own, Phase(own["phase"])
    elif flyway and parent in set(Phase):
        match, phase = flyway, Phase(parent)
    else:
        raise _refused(f"{path.relative_to(folder)} is no migration's name", folder, f"call it like {_LOOKS_LIKE}")
    if (phase is Phase.BACKFILL) != (match["kind"] == "yaml"):
        raise _refused(
            f"{path.name} is {match['kind']}", folder, "a backfill is a .yaml file, expand and contract are .sql files"
        )
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise _refused(f"{path.name} cannot be read: {error}", folder, "it must be readable UTF-8 text") from error
    return int(match["number"]), Migration(str(path.relative_to(folder)), phase, text, path)


def _refused(fact: str, folder: Path, next_step: str) -> MigrationRefused:
    return MigrationRefused(fact, part=str(folder), next_step=next_step)
