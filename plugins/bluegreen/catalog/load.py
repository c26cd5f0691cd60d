"""Service files to models. A broken file tells each of its problems, and never takes the others away."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from bluegreen.catalog import yaml_text
from bluegreen.catalog.models import SERVICE_NAME, Service
from bluegreen.catalog.section import WAY_BACK
from bluegreen.catalog.sentences import problems_of
from bluegreen.core.errors import CatalogError

VARIABLE = "BLUEGREEN_SERVICES"
WAY_BACK_SECTIONS = ("service", "entry", "router", "colors", "health")


@dataclass(frozen=True)
class Catalog:
    """
    Every service of a folder.

    :param services: by name, in the order of their names
    :param errors: one for each problem of each broken file
    :param way_back: of broken files what a restore needs, where that part is sound
    """

    services: Mapping[str, Service] = field(default_factory=dict)
    errors: Sequence[CatalogError] = ()
    way_back: Mapping[str, Service] = field(default_factory=dict)


def services_folder() -> Path:
    """
    Return the folder of the service files: ``$BLUEGREEN_SERVICES``, or ``include/services`` beside ``plugins/`` or here.

    :raises CatalogError: there is none; names each place that was looked at
    """
    named = os.environ.get(VARIABLE)
    beside_plugins = Path(__file__).parents[3] / "include" / "services"
    places = [Path(named)] if named else [beside_plugins, Path.cwd() / "include" / "services"]
    for place in places:
        if place.is_dir():
            return place
    looked = " and ".join(dict.fromkeys(str(place) for place in places))
    raise CatalogError(
        "no folder of service files", file=looked, next_step=f"make it, or name another: --services or {VARIABLE}"
    )


def load_file(path: Path) -> Service:
    """
    Read one service file.

    :raises CatalogError: with each problem of the file in ``problems``
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise CatalogError(
            f"cannot be read: {reason}", file=str(path), next_step="look at its name and mode"
        ) from error
    return _one(raw, path)


def load_way_back(path: Path) -> Service | None:
    """
    Read of a broken file what a restore needs: who routes, where the entry and the targets are.

    Somebody may break a file while its release is under way; traffic must find its way back all the same. The rest has
    its defaults, and the deployer can do nothing.

    :returns: None where that part is broken, too
    """
    try:
        told = json.loads(yaml_text.read_document(path.read_bytes()).as_json or "{}")
    except (OSError, ValueError):
        return None
    # People hear of a restore where they can; that they cannot keeps nobody from it.
    sections = WAY_BACK_SECTIONS
    return _partly(told, (*sections, "notify"), path) or _partly(told, sections, path)


def _partly(told: dict[str, Any], sections: Sequence[str], path: Path) -> Service | None:
    kept = {key: told[key] for key in sections if key in told}
    nothing = {"type": "command", "command": ["false"]}
    try:
        service = Service.model_validate_json(json.dumps(kept | {"deploy": nothing}), strict=True, context=WAY_BACK)
    except ValueError:
        return None
    return service if service.service == path.stem else None


def read_text(text: str, path: Path) -> Service:
    """
    Read what is to become a service file.

    :raises CatalogError: as ``load_file``
    """
    return _one(text.encode(), path)


def load_all(folder: Path) -> Catalog:
    """Read every service file of a folder; what is wrong stands in the catalog's errors."""
    services: dict[str, Service] = {}
    errors: list[CatalogError] = []
    broken: list[Path] = []
    for path in _files(folder, errors):
        try:
            service = load_file(path)
        except CatalogError as error:
            errors.extend(error.problems)
            broken.append(path)
        except Exception as error:  # noqa: BLE001 - a fault of ours in one file must not unguard the others
            fact = f"cannot be read: unexpected {type(error).__name__}"
            errors.append(CatalogError(fact, file=str(path), next_step="please report it, with the file"))
        else:
            services[service.service] = service
    partly = {found.service: found for path in broken if (found := load_way_back(path))}
    return Catalog(services, errors, partly)


def load_service(folder: Path, name: str) -> Service:
    """
    Read one service by its name; other files do not matter.

    :raises CatalogError: there is none of that name, or its file is broken
    """
    path = folder / f"{name}.yaml"
    if path.is_file() and "/" not in name:
        return load_file(path)
    known = sorted(file.stem for file in folder.glob("*.yaml"))
    near = "".join(f"did you mean {word!r}? " for word in get_close_matches(name, known, n=1))
    listed = ", ".join(known[:20]) + (" …" if len(known) > 20 else "")
    raise CatalogError(f"no service {name!r}", file=str(folder), next_step=f"{near}known: {listed or 'none'}")


def _files(folder: Path, errors: list[CatalogError]) -> Iterator[Path]:
    try:
        paths = sorted(folder.iterdir())
    except OSError:
        step = f"name another: --services or {VARIABLE}"
        errors.append(CatalogError("no folder of service files", file=str(folder), next_step=step))
        return
    for path in paths:
        if path.name.startswith("."):
            continue
        if path.suffix == ".yml":
            errors.append(CatalogError("found .yml, allowed .yaml", file=str(path), next_step="rename the file"))
        elif path.suffix == ".yaml":
            yield path


def _one(raw: bytes, path: Path) -> Service:
    service, problems = _read(raw, path)
    if problems or service is None:
        raise _together(path, problems)
    return service


def _read(raw: bytes, path: Path) -> tuple[Service | None, list[CatalogError]]:
    document = yaml_text.read_document(raw)
    service, found = None, list(document.problems)
    if document.as_json is not None:
        try:
            # Strict, and through JSON: a text stays a text and yes is no number, but enums and lists are read.
            service = Service.model_validate_json(document.as_json, strict=True)
        except ValidationError as error:
            found += problems_of(error.errors(include_url=False), document)
    name, line = yaml_text.text_at_top(document.root, "service")
    if re.fullmatch(SERVICE_NAME, name) and name != path.stem:
        found.append(_misnamed(name, line, path))
    found.sort(key=lambda problem: problem.line)
    return service, [_error(problem, path) for problem in found]


def _misnamed(name: str, line: int, path: Path) -> yaml_text.Problem:
    if path.with_name(f"{name}.yaml").is_file():
        fact = f"found {name!r}, which {name}.yaml describes already"
        return yaml_text.Problem(line, ("service",), fact, f"write service: {path.stem}, or delete this file")
    fact = f"found {name!r} in a file that is called {path.name}"
    return yaml_text.Problem(line, ("service",), fact, f"rename the file to {name}.yaml, or write service: {path.stem}")


def _error(problem: yaml_text.Problem, path: Path) -> CatalogError:
    return CatalogError(
        problem.fact, file=str(path), line=problem.line, key=_key(problem.path), next_step=problem.next_step
    )


def _key(path: yaml_text.Path) -> str:
    words = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return words.removeprefix(".")


def _together(path: Path, problems: Sequence[CatalogError]) -> CatalogError:
    if len(problems) == 1:
        return problems[0]
    text = "".join(f"\n  {problem}" for problem in problems)
    return CatalogError(f"{len(problems)} problems{text}", file=str(path), problems=problems)
