"""What an upgrade of a chart would change, line by line; what Secrets hold is never shown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from difflib import unified_diff
from typing import Any

import yaml

from bluegreen.clusters.objects import Json
from bluegreen.core.masks import without
from bluegreen.deployers.child import spellings

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


def difference(before: str, after: str, hide: Iterable[str] = ()) -> Iterator[str]:
    """
    Yield the difference of two manifests, object by object.

    :param before: of what is deployed, empty for nothing
    :param after: of what would be
    :param hide: passwords that no line may show, wherever they stand
    """
    old, new, hidden = objects_in(before), objects_in(after), spellings(hide)
    names = dict.fromkeys([*old, *new])
    lines = [line for name in names for line in _changed(name, old.get(name), new.get(name), hidden)]
    yield from lines[:MOST]
    if len(lines) > MOST:
        yield f"and {len(lines) - MOST} more lines"
    if not lines:
        yield "nothing in the manifests changes"


def _changed(name: str, old: Json | None, new: Json | None, hide: Sequence[str]) -> Iterator[str]:
    if old == new:
        return
    shown_old, shown_new = _shown(old, new, "before", hide), _shown(new, old, "after", hide)
    for line in unified_diff(shown_old, shown_new, f"{name} before", f"{name} after", n=1, lineterm=""):
        yield line.rstrip()


def _shown(one: Json | None, other: Json | None, when: str, hide: Sequence[str]) -> list[str]:
    if one is None:
        return []
    keys = ("data", "stringData") if one.get("kind") == "Secret" else ()
    stars = {key: _hidden(one[key], (other or {}).get(key), when) for key in keys if key in one}
    rest = {key: value for key, value in one.items() if key not in stars}
    # Before it is written as YAML, which may quote, escape and fold a password: none would be found in that.
    shown = {**_cleared(rest, other, when, hide), **stars}
    return yaml.safe_dump(shown, sort_keys=True, default_flow_style=False).splitlines()


def _hidden(found: Any, other: Any, when: str) -> Any:
    """Return a Secret's data as stars that tell only whether a value changes."""
    same = other if isinstance(other, dict) else {}
    entries = found if isinstance(found, dict) else {}
    return {key: "***" if same.get(key) == value else f"*** ({when})" for key, value in entries.items()}


def _cleared(found: Any, other: Any, when: str, hide: Sequence[str]) -> Any:
    """
    Return what stands somewhere without passwords, and say where one changes.

    :param other: what stands there before or after
    """
    if isinstance(found, dict):
        there = other if isinstance(other, dict) else {}
        return {without(str(k), hide): _cleared(value, there.get(k), when, hide) for k, value in found.items()}
    if isinstance(found, list):
        return [_cleared(one, _same_place(n, one, other), when, hide) for n, one in enumerate(found)]
    text = without(str(found), hide)
    mine, theirs = text != str(found), not isinstance(other, dict | list) and without(str(other), hide) != str(other)
    if not (mine or theirs):
        return found
    # Beside a password that we know stands one that we do not: what it was before.
    return (text if mine else "***") + ("" if found == other else f" ({when})")


def _same_place(number: int, one: Any, others: Any) -> Any:
    """Return what stands in another list where one stands in its own: what bears its name, else what has its number."""
    there = others if isinstance(others, list) else []
    if isinstance(one, dict) and "name" in one:
        return next((other for other in there if isinstance(other, dict) and other.get("name") == one["name"]), None)
    return there[number] if number < len(there) else None
