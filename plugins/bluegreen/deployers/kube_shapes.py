"""Files of manifests as they are read, and what is no object that one can work with; no sentence shows a value."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

import yaml

from bluegreen.clusters.objects import Json

MOST_VALUES = 100_000
"""Of a document: more are made by aliases only."""
DEEPEST = 100
TEXTS = {"Secret": ("data", "stringData"), "ConfigMap": ("data", "binaryData")}
"""What holds texts only. The API server's own message shows what else it finds there."""
_TYPES = {
    dict: "keys with values", list: "a list", str: "a text", bool: "true or false", int: "a whole number",
    float: "a number", type(None): "nothing",
}  # fmt: skip
_QUOTE = "put it in quotes"
_PODS = "spec.template"
_MAPPINGS = (
    "spec", _PODS, f"{_PODS}.spec", "spec.jobTemplate", "spec.jobTemplate.spec", f"spec.jobTemplate.{_PODS}",
    f"spec.jobTemplate.{_PODS}.spec",
)  # fmt: skip
_METADATA = ("metadata", f"{_PODS}.metadata", "spec.jobTemplate.metadata", f"spec.jobTemplate.{_PODS}.metadata")


class Odd(Exception):
    """
    A file holds what nobody can work with.

    :param fact: where, and what was found; no value, which may be a Secret's
    :param mend: what to do
    """

    def __init__(self, fact: str, mend: str) -> None:
        self.fact, self.mend = fact, mend
        super().__init__(fact)


@dataclass(frozen=True)
class Document:
    """
    One object as a file has it.

    :param place: file and number of the document, as errors call it
    :param body: the object: it has texts as ``apiVersion``, ``kind`` and ``metadata.name``
    """

    place: str
    body: Json


def documents(path: Path) -> list[Document]:
    """
    Return the objects of a file; those of a List one by one.

    :raises Odd: it cannot be read, or an object has not the shape that Kubernetes' objects have
    """
    found: list[Document] = []
    for number, one in enumerate(_loaded(path), 1):
        place = f"{path}, document {number}"
        try:
            _only_json(place, one)
        except RecursionError:
            raise Odd(f"{place} is nested too deeply, or an alias stands in itself", "write it out") from None
        found += (Document(*item) for item in _items(place, one))
    for each in found:
        _shaped(each)
    return found


def _loaded(path: Path) -> list[Any]:
    try:
        return list(yaml.safe_load_all(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError) as error:
        raise Odd(f"{path} cannot be read: {type(error).__name__}", "mend the file, or its path") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        # Its own text shows lines of the file, which may be a Secret's.
        mark = getattr(error, "problem_mark", None)
        raise Odd(f"{path}{f', line {mark.line + 1}' if mark else ''} is no YAML", "mend the file") from None


def _only_json(place: str, one: Any) -> None:
    for many, (path, value) in enumerate(_walk(one, "", 0)):
        if many > MOST_VALUES:
            raise Odd(f"{place} never ends: its aliases repeat each other", "write out what they repeat")
        if type(value) not in _TYPES or (isinstance(value, float) and not isfinite(value)):
            raise Odd(f"{place}: {path or 'it'} is read as {_type(value)}, which no object has", _QUOTE)
        if isinstance(value, dict) and (key := next((key for key in value if not isinstance(key, str)), "")) != "":
            raise Odd(f"{place}: the key {key} of {path or 'it'} is read as {_type(key)}, wanted a text", _QUOTE)


def _walk(one: Any, path: str, depth: int) -> Iterator[tuple[str, Any]]:
    if depth > DEEPEST:
        raise RecursionError
    yield path, one
    inside: Any = one.items() if isinstance(one, dict) else enumerate(one) if isinstance(one, list) else ()
    for key, value in inside:
        yield from _walk(value, f"{path}[{key}]" if isinstance(one, list) else f"{path}.{key}".lstrip("."), depth + 1)


def _type(value: Any) -> str:
    name = "binary data" if isinstance(value, bytes) else f"a {type(value).__name__}"
    return _TYPES.get(type(value), name)


def _items(place: str, one: Any) -> Iterator[tuple[str, Any]]:
    if not isinstance(one, dict) or one.get("kind") != "List":
        yield from [] if one is None else [(place, one)]
        return
    items = one.get("items") or []
    if not isinstance(items, list):
        raise Odd(f"{place}: items is {_type(items)}, wanted a list", "begin each object with a dash")
    yield from ((f"{place}, items[{number}]", item) for number, item in enumerate(items))


def _shaped(one: Document) -> None:
    """Refuse an object whose parts are not what deploys take them for."""
    metadata = one.body.get("metadata") if isinstance(one.body, dict) else None
    if not isinstance(metadata, dict) or not metadata.get("name"):
        mend = "each document is one object with metadata.name; generateName is no name that it can be found by"
        raise Odd(f"{one.place} holds what is no object with a name", mend)
    _is_text(one.place, "metadata.name", metadata["name"])
    for key in ("apiVersion", "kind"):
        _is_text(one.place, key, one.body.get(key))
    place = f"{one.place}: {one.body['kind']} {metadata['name']}"
    for path in (*_MAPPINGS, *_METADATA):
        _mapping(place, one.body, path)
    texts = [f"{path}.{key}" for path in _METADATA for key in ("labels", "annotations")]
    for path in (*texts, *TEXTS.get(one.body["kind"], ())):
        for key, value in _mapping(place, one.body, path).items():
            _is_text(place, f"{path}.{key}", value)
    size = _mapping(place, one.body, "spec").get("replicas", 0)
    if type(size) is not int or size < 0:
        fact = f"{place}: spec.replicas is {_type(size)}, wanted a whole number"
        raise Odd(fact, "write it without quotes, or take it out")


def _mapping(place: str, body: Json, path: str) -> Mapping[str, Any]:
    """Return what stands under a path, nothing where there is nothing; each step was looked at before."""
    here: Mapping[str, Any] = body
    for word in path.split("."):
        found = here.get(word)
        if found is not None and not isinstance(found, dict):
            raise Odd(f"{place}: {path} is {_type(found)}, wanted keys with values", "indent its keys below it")
        here = found or {}
    return here


def _is_text(place: str, path: str, value: Any) -> None:
    if not isinstance(value, str):
        raise Odd(f"{place}: {path} is {_type(value)}, wanted a text", _QUOTE)
