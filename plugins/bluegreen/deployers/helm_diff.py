"""What an upgrade of a chart would change, line by line; what Secrets hold is never shown."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import unified_diff
from typing import Any

import yaml

from bluegreen.clusters.objects import Json

MOST = 300
"""Lines of a difference that are shown."""


def objects_in(manifest: str) -> dict[str, Json]:
    """
    Return the objects of a manifest by kind and name.

    :raises ValueError: it is no YAML; says the line and nothing of what stands there, which may be a Secret's
    """
    try:
        found = [one for one in yaml.safe_load_all(manifest) if isinstance(one, dict) and one.get("metadata")]
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        raise ValueError(f"the rendered chart is no YAML{f' in line {mark.line + 1}' if mark else ''}") from None
    return {f"{one.get('kind')} {one['metadata'].get('name')}": one for one in found}


def difference(before: str, after: str) -> Iterator[str]:
    """
    Yield the difference of two manifests, object by object.

    :param before: of what is deployed, empty for nothing
    :param after: of what would be
    """
    old, new = objects_in(before), objects_in(after)
    lines = [line for name in dict.fromkeys([*old, *new]) for line in _changed(name, old.get(name), new.get(name))]
    yield from lines[:MOST]
    if len(lines) > MOST:
        yield f"and {len(lines) - MOST} more lines"
    if not lines:
        yield "nothing in the manifests changes"


def _changed(name: str, old: Json | None, new: Json | None) -> Iterator[str]:
    if old == new:
        return
    shown_old, shown_new = _shown(old, new, "before"), _shown(new, old, "after")
    for line in unified_diff(shown_old, shown_new, f"{name} before", f"{name} after", n=1, lineterm=""):
        yield line.rstrip()


def _shown(one: Json | None, other: Json | None, when: str) -> list[str]:
    if one is None:
        return []
    if one.get("kind") == "Secret":
        hidden = {
            key: _hidden(one.get(key), (other or {}).get(key), when) for key in ("data", "stringData") if key in one
        }
        one = one | hidden
    return yaml.safe_dump(one, sort_keys=True, default_flow_style=False).splitlines()


def _hidden(found: Any, other: Any, when: str) -> Any:
    """Return a Secret's data as stars that tell only whether a value changes."""
    same = other if isinstance(other, dict) else {}
    entries = found if isinstance(found, dict) else {}
    return {key: "***" if same.get(key) == value else f"*** ({when})" for key, value in entries.items()}
