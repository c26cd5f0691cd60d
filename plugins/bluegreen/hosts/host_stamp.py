"""
A stamp as flat words on a host, and how a writer compares it. Standard library of Python 3.9 only (``host_files``).

The words are those of ``core.stamp.Stamp.as_fields`` with ``split``, the split that the stamp was written with.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from bluegreen.hosts.host_files import Trouble

_WORDS = {"epoch": r"[1-9]\d*", "split": r"\d+/\d+", "release": r".+", "step": r".+", "phase": r"[a-z]+"}


def require_words(fields: Mapping[str, str], what: str, mend: str) -> None:
    """
    Refuse a stamp whose words are not there or make no sense; no words at all are no stamp.

    :param what: how people call the place: ``the map's stamp``
    """
    for name, pattern in _WORDS.items() if fields else ():
        if not re.fullmatch(pattern, fields.get(name, ""), re.DOTALL):
            fact = f"{what} is garbled: {name} is {fields.get(name, 'not there')!r}"
            raise Trouble("refused", fact, mend)


def version(split: str, fields: Mapping[str, str]) -> list[Any]:
    """Return what a writer compares: split, epoch, release, step, phase; the split alone without a stamp."""
    if not fields:
        return [split]
    return [split, int(fields["epoch"]), *(fields[key] for key in ("release", "step", "phase"))]


def require_version(expected: list[Any], found: list[Any]) -> None:
    """Refuse to write over anything but what the writer has read."""
    if list(expected) != found:
        raise Trouble("conflict", f"expected {_says(expected)}, found {_says(found)}", "read again")


def way_back(fields: Mapping[str, str]) -> bool:
    """Tell whether these words are written by a restore, which needs the old color to serve and nothing else."""
    return fields.get("phase") in ("restored", "stranded")


def with_later_lease(before: Mapping[str, str], fields: Mapping[str, str]) -> dict[str, str]:
    """Return the words to write; of the same write's two leases the later one, as a renewal may be overtaken."""
    same = all(before.get(key) == fields.get(key) for key in ("epoch", "release", "step", "phase"))
    leases = (before.get("lease", "-"), fields.get("lease", "-"))
    return {**fields, "lease": max(leases)} if same and "-" not in leases else dict(fields)


def _says(found: list[Any]) -> str:
    split, *stamp = found
    return f"{split}, epoch {stamp[0]} ({stamp[3]}) of {stamp[1]}" if stamp else f"{split}, no stamp"
