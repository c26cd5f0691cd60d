"""Annotations of objects: read, and written by a JSON patch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bluegreen.clusters.objects import Json, escaped


def annotation(found: Mapping[str, Any], key: str) -> str:
    """Return an object's annotation, empty where it has none."""
    return str((found["metadata"].get("annotations") or {}).get(key, ""))


def annotated(found: Mapping[str, Any], values: Mapping[str, str | None]) -> list[Json]:
    """
    Return the JSON patch that sets annotations of an object.

    :param values: None takes one off
    """
    there = found["metadata"].get("annotations")
    operations: list[Json] = [] if there is not None else [{"op": "add", "path": "/metadata/annotations", "value": {}}]
    for key, value in values.items():
        path = f"/metadata/annotations/{escaped(key)}"
        if value is not None and (there or {}).get(key) != value:
            operations.append({"op": "add", "path": path, "value": value})
        elif value is None and key in (there or {}):
            operations.append({"op": "remove", "path": path})
    return [] if [one["path"] for one in operations] == ["/metadata/annotations"] else operations
