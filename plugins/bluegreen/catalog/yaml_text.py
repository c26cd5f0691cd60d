"""One YAML text: its data, where each value stands, and what YAML itself would hide (a key twice, a secret)."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import yaml

Path = tuple[str | int, ...]

_TAG = "tag:yaml.org,2002:"
_TAGS = {f"{_TAG}{kind}" for kind in ("str", "int", "float", "bool", "null", "seq", "map", "merge")}
_MOST_VALUES = 100_000
_SECRET_KEY = re.compile(
    r"(?:.*[_-])?(?:password|passwd|token|secret|api[_-]?key|private[_-]?key|authorization)", re.IGNORECASE
)
_SECRET_VALUE = re.compile(
    r"://[^/@\s]*:[^/@\s]+@|(?:^|\s)--?[\w-]*(?:password|passwd|token|secret|api-?key)=.", re.IGNORECASE
)


class _Loader(yaml.CSafeLoader):
    """YAML 1.1 without its traps: dates, ``=``, octal and base-60 numbers stay the text that they are."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - PyYAML's own name and type
        first: [(tag, regexp) for tag, regexp in resolvers if tag in _TAGS - {f"{_TAG}int"}]
        for first, resolvers in yaml.CSafeLoader.yaml_implicit_resolvers.items()
    }


_Loader.add_implicit_resolver(f"{_TAG}int", re.compile(r"^[-+]?(?:0|[1-9]\d*)$"), list("-+0123456789"))


@dataclass(frozen=True)
class Problem:
    """
    One thing that is wrong with a text.

    :param line: from 1; 0 for the text as a whole
    :param path: of the key
    :param fact: what was found, and what is allowed
    :param next_step: what to do about it
    """

    line: int
    path: Path
    fact: str
    next_step: str = ""


@dataclass
class Document:
    """
    A text that was read.

    :param as_json: its data, None where it could not be read
    :param root: the node that tells where each value stands
    :param problems: what was found on the way
    :param secrets: paths whose values must not be shown
    """

    as_json: bytes | None = None
    root: yaml.Node | None = None
    problems: list[Problem] = field(default_factory=list)
    secrets: set[Path] = field(default_factory=set)


class _Unreadable(Exception):
    """Nothing can be made of the text; holds the one problem."""

    def __init__(self, fact: str, next_step: str, line: int = 0, path: Path = ()) -> None:
        super().__init__(Problem(line, path, fact, next_step))
        self.problem = Problem(line, path, fact, next_step)


def read_document(raw: bytes) -> Document:
    """Read one YAML document; what is wrong with it stands in its problems."""
    document = Document()
    try:
        _read(raw, document)
    except _Unreadable as error:
        document.problems.append(error.problem)
    except RecursionError:
        document.problems.append(Problem(0, (), "nested too deeply", "write it flatter"))
    return document


def _read(raw: bytes, document: Document) -> None:
    text = _text(raw)
    loader = _Loader(text)
    try:
        root = _mapping(loader.get_single_node())
        if "&" in text and _weight(root, {}) > _MOST_VALUES:
            raise _Unreadable("its anchors and aliases never end", "write out what an alias repeats")
        for problem in _walk(root, (), document.secrets, set()):
            document.problems.append(problem)
        document.root, document.as_json = root, json.dumps(loader.construct_document(root)).encode()
    except yaml.MarkedYAMLError as error:
        raise _syntax(error, text) from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise _Unreadable("a control character", "take it out; a text editor may not show it", line) from error
    except (yaml.YAMLError, ValueError) as error:
        raise _Unreadable("no valid YAML: a value does not fit its tag", "take its !! tags out") from error
    finally:
        loader.dispose()


def _text(raw: bytes) -> str:
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise _Unreadable("not UTF-8", "save it as UTF-8", line) from error


def _mapping(root: yaml.Node | None) -> yaml.Node:
    if root is None:
        raise _Unreadable("the file is empty", "write a service, or delete it; bluegreen init makes one")
    if not isinstance(root, yaml.MappingNode):
        line = root.start_mark.line + 1
        raise _Unreadable(f"found {shown(root)}, wanted keys with values", "begin with service: <name>", line)
    return root


def _syntax(error: yaml.MarkedYAMLError, text: str) -> _Unreadable:
    mark = error.problem_mark or error.context_mark
    line = mark.line if mark else 0
    lines = text.splitlines() or [""]
    here = lines[min(line, len(lines) - 1)]
    if "\t" in here[: len(here) - len(here.lstrip())]:
        return _Unreadable("a tab", "YAML is indented with spaces only", line + 1)
    if "another document" in str(error.problem):
        return _Unreadable("a second document begins here", "one service a file: take the --- line out", line + 1)
    reason = ", ".join(word for word in (error.context, error.problem) if word)
    return _Unreadable(f"no valid YAML: {reason}", "look at this line and the one above", line + 1)


def _children(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [child for pair in node.value for child in pair]
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []


def _weight(node: yaml.Node, known: dict[int, float]) -> float:
    """Count the values after every alias is written out; infinite where a node holds itself."""
    if id(node) not in known:
        known[id(node)] = math.inf
        known[id(node)] = 1 + sum(_weight(child, known) for child in _children(node))
    return known[id(node)]


def _walk(node: yaml.Node, path: Path, secrets: set[Path], seen: set[int]) -> Iterator[Problem]:
    if id(node) in seen:
        return
    seen.add(id(node))
    if node.tag not in _TAGS:
        raise _Unreadable(f"the tag {node.tag} is not allowed", "take it out", node.start_mark.line + 1, path)
    if isinstance(node, yaml.MappingNode):
        yield from _walk_mapping(node, path, secrets, seen)
    elif isinstance(node, yaml.SequenceNode):
        for index, child in enumerate(node.value):
            yield from _walk(child, (*path, index), secrets, seen)
    elif isinstance(node.value, str) and node.tag == f"{_TAG}str" and _SECRET_VALUE.search(node.value):
        secrets.add(path)
        yield _secret(node, path)


def _walk_mapping(node: yaml.MappingNode, path: Path, secrets: set[Path], seen: set[int]) -> Iterator[Problem]:
    first: dict[str, int] = {}
    for key, value in node.value:
        line = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode):
            raise _Unreadable(f"found {shown(key)} as a key, wanted a text", "write a plain word", line, path)
        inside = path if key.tag == f"{_TAG}merge" else (*path, key.value)
        if key.tag != f"{_TAG}merge":
            key.tag = f"{_TAG}str"  # a key is a text, also where YAML reads yes, no or 1
            if key.value in first:
                fact = f"the key {key.value!r} stands twice, first in line {first[key.value]}"
                yield Problem(line, inside, fact, "YAML would silently take the last: keep one")
            first.setdefault(key.value, line)
        if _is_secret(inside, value):
            secrets.add(inside)
            yield _secret(key, inside)
        else:
            yield from _walk(value, inside, secrets, seen)


def _is_secret(path: Path, value: yaml.Node) -> bool:
    """Tell whether the key says so; ``secrets:`` holds ids of connections."""
    if value.tag in (f"{_TAG}bool", f"{_TAG}null") or "secrets" in path[:-1]:
        return False
    return bool(path) and isinstance(path[-1], str) and bool(_SECRET_KEY.fullmatch(path[-1]))


def _secret(node: yaml.Node, path: Path) -> Problem:
    step = "secrets only by connection id (entry.connection, deploy.secrets): take it out, and change it"
    return Problem(node.start_mark.line + 1, path, "a secret in a service file", step)


def shown(node: yaml.Node | None) -> str:
    """Say in a few words what stands there."""
    if isinstance(node, yaml.MappingNode):
        return "keys with values"
    if isinstance(node, yaml.SequenceNode):
        return "a list"
    if node is None or node.tag == f"{_TAG}null":
        return "nothing"
    text = _SECRET_VALUE.sub(" *** ", " ".join(str(node.value).split()))
    text = text if len(text) <= 60 else f"{text[:60]}…"
    return repr(text) if node.tag == f"{_TAG}str" else text


def text_at_top(root: yaml.Node | None, key: str) -> tuple[str, int]:
    """Return the text of a key at the top and its line; empty where there is none."""
    pairs = root.value if isinstance(root, yaml.MappingNode) else ()
    texts = ((value.value, at.start_mark.line + 1) for at, value in pairs if at.value == key)
    return next(((text, line) for text, line in texts if isinstance(text, str)), ("", 0))
