"""What pydantic found, said for people: where it stands, what was found, what is allowed, what to do."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from typing import Any

import yaml
from pydantic_core import ErrorDetails

from bluegreen.catalog import deploys, durations, evidence, kube, kube_deploys, models, section
from bluegreen.catalog.yaml_text import Document, Path, Problem, shown

Sentence = tuple[str, str]
Json = Mapping[str, Any]

_PATTERNS = {
    models.SERVICE_NAME: "a name of lower-case letters, digits and dashes that begins with a letter, at most 41",
    "^/": "a path that begins with /",
    "^(/|~/)": "a path that begins with / or ~/",
    "^0?[0-7]{3}$": 'a file mode in quotes, like "0640"',
    kube_deploys.ENV_NAME: "the name of an environment variable",
    kube_deploys.SET_KEY: "the path of a value with dots, like image.tag",
    deploys.SSH_ADDRESS: "a host like 10.0.1.11 or web1, or one with a port, like web1:2222",
    section.CONNECTION_ID: "the id of an Airflow connection",
    evidence.METRIC_NAME: "the name of a Prometheus metric",
    evidence.LABEL_NAME: "the name of a Prometheus label",
    kube.OBJECT_NAME: "a Kubernetes name: lower-case letters, digits, dashes and dots",
    kube.LABEL_KEY: "the key of a Kubernetes label, like version or app.kubernetes.io/version",
    kube.LABEL_VALUE: "the value of a Kubernetes label",
    durations.PATTERN: "a duration like 500ms, 30s, 5m or 1h30m",
}


@dataclass(frozen=True)
class Place:
    """
    Where an error stands.

    :param path: as a person writes it, without pydantic's own words
    :param line: of the key, from 1
    :param node: the value, None where the key is missing
    :param schema: what is allowed there
    :param parent: what is allowed around it
    """

    path: Path
    line: int
    node: yaml.Node | None
    schema: Json
    parent: Json

    @property
    def key(self) -> str:
        """The last word of the path."""
        return str(self.path[-1]) if self.path else ""


def problems_of(errors: Sequence[ErrorDetails], document: Document, schema: Json | None = None) -> Iterator[Problem]:
    """
    Translate pydantic's errors; what follows from another one is left out.

    :param schema: of the file, without references; by default a service file's
    """
    told = [(error, _place(error["loc"], document.root, schema or _schema())) for error in errors]
    misspelt = {(*p.path[:-1], _meant(p)) for error, p in told if error["type"] == "extra_forbidden"}
    for error, place in told:
        if _hidden(place.path, document) or (error["type"] == "missing" and place.path in misspelt):
            continue
        if error["type"] == "too_short" and place.node is not None and place.node.value:
            continue  # its items are wrong, and each is told by itself
        fact, next_step = _SENTENCES.get(error["type"], _other)(error, place)
        path = (*place.path, "type") if error["type"].startswith("union_tag") else place.path
        yield Problem(place.line, path, fact, next_step)


def _hidden(path: Path, document: Document) -> bool:
    return any(path[:length] in document.secrets for length in range(1, len(path) + 1))


@cache
def _schema() -> Json:
    return models.Service.model_json_schema()


def _resolved(schema: Json) -> Json:
    """Follow a reference; of ``X or null`` take X."""
    for choice in schema.get("anyOf", ()):
        if choice.get("type") != "null":
            schema = {**choice, **{key: schema[key] for key in ("description", "examples") if key in schema}}
    if reference := schema.get("$ref"):
        return {**_schema()["$defs"][reference.rpartition("/")[2]], **schema, "$ref": ""}
    return schema


def _inside(schema: Json, part: str | int) -> Json:
    if isinstance(part, int):
        return _resolved(schema.get("items", {}))
    return _resolved(schema.get("properties", {}).get(part) or schema.get("additionalProperties") or {})


def _place(loc: tuple[int | str, ...], root: yaml.Node | None, schema: Json) -> Place:
    """Walk schema and nodes together; the tag of a union and ``[key]`` are pydantic's words, not the file's."""
    place = Place((), 1, root, schema, {})
    for part in loc:
        schema = place.schema
        if "discriminator" in schema and part in schema["discriminator"]["mapping"]:
            schema = _resolved({"$ref": schema["discriminator"]["mapping"][part]})
            place = Place(place.path, place.line, place.node, schema, place.parent)
        elif str(part).startswith("[") and part != "[key]":  # told apart by its keys, not by a `type`
            schema = _resolved({"$ref": f"#/$defs/{str(part).strip('[]')}"})
            place = Place(place.path, place.line, place.node, schema, place.parent)
        elif part != "[key]":
            node, line = _child(place, part)
            place = Place((*place.path, part), line, node, _inside(schema, part), schema)
    return place


def _child(place: Place, part: str | int) -> tuple[yaml.Node | None, int]:
    node = place.node
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int):
        return node.value[part], node.value[part].start_mark.line + 1
    pairs = node.value if isinstance(node, yaml.MappingNode) else ()
    # The last one, as YAML takes it: what an alias merged in stands first.
    found = [(value, key.start_mark.line + 1) for key, value in pairs if key.value == part]
    return found[-1] if found else (None, place.line)


def _meant(place: Place) -> str:
    near = get_close_matches(place.key, place.parent.get("properties", {}), n=1)
    return near[0] if near else ""


def _near(word: str, allowed: Sequence[str]) -> str:
    near = get_close_matches(word, allowed, n=1)
    return f"did you mean {near[0]!r}?" if near else ""


def _unknown_key(_: ErrorDetails, place: Place) -> Sentence:
    allowed = sorted(place.parent.get("properties", {}))
    step = f"{_near(place.key, allowed)} allowed keys: {', '.join(allowed)}"
    return f"unknown key {place.key!r}", step.strip()


def _missing(_: ErrorDetails, place: Place) -> Sentence:
    about = place.schema.get("description", "")
    example = "".join(f", like {example}" for example in place.schema.get("examples", [])[:1])
    return f"the key {place.key!r} is missing", f"add {place.key}:" + (f" {about}{example}" if about else " …")


def _choice(error: ErrorDetails, place: Place) -> Sentence:
    allowed = _choices(error, place.schema)
    found = place.key if error["loc"][-1] == "[key]" else place.node
    word = found if isinstance(found, str) else str(found.value) if found else ""
    said = repr(found) if isinstance(found, str) else shown(found)
    return f"found {said}, allowed {', '.join(allowed)}", _near(word, allowed)


def _choices(error: ErrorDetails, schema: Json) -> list[str]:
    if "discriminator" in schema:
        return sorted(schema["discriminator"]["mapping"])
    expected = str(error.get("ctx", {}).get("expected", ""))
    return [word.strip("' ") for word in expected.replace(" or ", ", ").split(",")]


def _type_of_union(error: ErrorDetails, place: Place) -> Sentence:
    node, _ = _child(place, "type")
    if node is None:
        return "the key 'type' is missing", f"allowed {', '.join(_choices(error, place.schema))}"
    return _choice(error, Place(place.path, place.line, node, place.schema, place.parent))


def _bounds(error: ErrorDetails, place: Place) -> Sentence:
    least, most = place.schema.get("minimum"), place.schema.get("maximum")
    if least is None and most is None:  # a duration's schema is a text's, which has no bounds
        return _bound(error, place)
    allowed = f"{least:g} to {most:g}" if least is not None and most is not None else ""
    allowed = allowed or (f"{least:g} or more" if least is not None else f"at most {most:g}")
    return f"found {shown(place.node)}, allowed {allowed}", ""


def _bound(error: ErrorDetails, place: Place) -> Sentence:
    told = error["msg"].removeprefix("Input should be ")
    # Of a duration that may be null pydantic shows Python's own spelling.
    told = re.sub(r"datetime\.timedelta\((\w+)=(\d+)\)", r"\2 \1", told).replace("datetime.timedelta(0)", "0 seconds")
    return f"found {shown(place.node)}, allowed {told}", ""


def _pattern(error: ErrorDetails, place: Place) -> Sentence:
    pattern = error["ctx"]["pattern"]
    example = "".join(f" like {example}" for example in place.schema.get("examples", [])[:1])
    allowed = _PATTERNS.get(pattern) or (f"a text{example}" if example else f"what matches {pattern}")
    # Where an id is wanted somebody may have written the secret itself.
    found = "something else" if pattern == section.CONNECTION_ID else shown(place.node)
    return f"found {found}, allowed {allowed}", ""


def _text(_: ErrorDetails, place: Place) -> Sentence:
    node = place.node
    if not isinstance(node, yaml.ScalarNode) or node.tag.endswith(":null"):
        return f"found {shown(node)}, wanted a text", "write a text, or take the key out"
    read_as = "a number" if node.tag.endswith((":int", ":float")) else "true or false"
    return f"found {node.value}, which YAML reads as {read_as}, wanted a text", f'put it in quotes: "{node.value}"'


def _value(error: ErrorDetails, place: Place) -> Sentence:
    reason = str(error.get("ctx", {}).get("error") or error["msg"])
    scalar = isinstance(place.node, yaml.ScalarNode)
    return (f"found {shown(place.node)}, {reason}" if scalar else reason), ""


def _wanted(what: str, next_step: str = "") -> Callable[[ErrorDetails, Place], Sentence]:
    def sentence(_: ErrorDetails, place: Place) -> Sentence:
        return f"found {shown(place.node)}, wanted {what}", next_step

    return sentence


def _empty(_: ErrorDetails, place: Place) -> Sentence:
    what = "list" if isinstance(place.node, yaml.SequenceNode) else "text"
    return f"the {what} is empty, wanted at least 1 {'item' if what == 'list' else 'character'}", ""


def _other(error: ErrorDetails, place: Place) -> Sentence:
    return f"found {shown(place.node)}: {error['msg']}", ""


_KEYS = _wanted("keys with values", "indent its keys below it")
_LIST = _wanted("a list", "begin each item with a dash: - …")
_WHOLE = _wanted("a whole number", "write it without quotes and unit")
_NUMBER = _wanted("a number", "write it without quotes and unit")
_ADDRESS = _wanted("an address like http://10.0.1.11:8080")

_SENTENCES: dict[str, Callable[[ErrorDetails, Place], Sentence]] = {
    "extra_forbidden": _unknown_key,
    "missing": _missing,
    "enum": _choice,
    "literal_error": _choice,
    "union_tag_invalid": _type_of_union,
    "union_tag_not_found": _type_of_union,
    "greater_than": _bound,
    "greater_than_equal": _bounds,
    "less_than_equal": _bounds,
    "string_pattern_mismatch": _pattern,
    "string_type": _text,
    "path_type": _text,
    "value_error": _value,
    "string_too_short": _empty,
    "too_short": _empty,
    "model_type": _KEYS,
    "model_attributes_type": _KEYS,
    "dict_type": _KEYS,
    "tuple_type": _LIST,
    "int_type": _WHOLE,
    "int_from_float": _WHOLE,
    "float_type": _NUMBER,
    "finite_number": _NUMBER,
    "url_parsing": _ADDRESS,
    "url_scheme": _ADDRESS,
    "url_syntax_violation": _ADDRESS,
}
