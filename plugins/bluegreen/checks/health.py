"""Health questions to a color's targets, past the router: which are well, and which version they are."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jmespath
from jmespath.exceptions import JMESPathError

from bluegreen.catalog.models import Health, Service
from bluegreen.checks.fresh import Address, Answer, Asker, NoAnswer, asking, gathered, shown
from bluegreen.core.colors import Color
from bluegreen.core.ports import Deployed

CONCURRENCY = 32


@dataclass(frozen=True)
class TargetHealth:
    """
    One target's answer to the health question.

    :param target: its address in the catalog
    :param ok: it answered with the status that the catalog wants
    :param version: what it reports, or None
    :param error: why it is not ok, or, of a target that is, why no version was found
    """

    target: str
    ok: bool
    version: str | None = None
    error: str = ""

    def __str__(self) -> str:
        if not self.ok:
            return f"{self.target}: {self.error}"
        return f"{self.target}: healthy, {f'version {self.version}' if self.version else self.error or 'no version'}"


def ask_targets(targets: Sequence[str], health: Health, ca_file: Path | None = None) -> list[TargetHealth]:
    """
    Ask targets at the same time, each over a fresh connection; one entry a target, in their order.

    :param ca_file: own certificate authority for https targets
    :raises CheckFailed: the CA file cannot be read
    """

    async def ask_all() -> list[TargetHealth]:
        async with asking(concurrency=CONCURRENCY, ca_file=ca_file) as asker:
            return await gathered((_ask(asker, target, health) for target in targets), CONCURRENCY)

    return asyncio.run(ask_all())


def ask_color(service: Service, color: Color) -> list[TargetHealth]:
    """Ask every target of a color; see ``ask_targets``."""
    return ask_targets(service.colors[color].targets, service.health, service.entry.ca_file)


def deployed(service: Service, color: Color) -> Deployed:
    """Ask every target of a color what runs there."""
    return summed(ask_color(service, color))


def summed(found: Sequence[TargetHealth]) -> Deployed:
    """Return what the ready targets agree on; no version where they differ or one says none."""
    ready = [target for target in found if target.ok]
    versions = {target.version for target in ready}
    return Deployed(versions.pop() if len(versions) == 1 else None, len(ready), len(found))


def version_in(body: str, path: str) -> str:
    """
    Find the version in a health answer.

    :raises ValueError: it is no JSON, or there is no version at the path
    """
    found = at(body, path)
    if isinstance(found, bool) or not isinstance(found, str | int | float) or found == "":
        raise ValueError(f"no version at {path}")
    return str(found)


def at(body: str, path: str) -> Any:
    """
    Return what stands at a JMESPath in a JSON body.

    :raises ValueError: the body is no JSON, or the path is no JMESPath
    """
    try:
        return jmespath.search(path, json.loads(body))
    except json.JSONDecodeError as error:
        raise ValueError("no JSON") from error
    except JMESPathError as error:
        raise ValueError(f"{path} is no JMESPath: {error}") from error


async def first_well(asker: Asker, targets: Sequence[str], health: Health) -> TargetHealth:
    """
    Ask targets at the same time until one is well, which is enough to serve; never longer than ``health.timeout``.

    :returns: the first that is well; without any, the last that answered
    """
    asking_each = [asyncio.ensure_future(_ask(asker, target, health)) for target in targets]
    try:
        for answered in asyncio.as_completed(asking_each):
            found = await answered
            if found.ok:
                break
    finally:
        for one in asking_each:
            one.cancel()
        await asyncio.gather(*asking_each, return_exceptions=True)
    return found


async def _ask(asker: Asker, target: str, health: Health) -> TargetHealth:
    try:
        answer = await asker.ask(Address.of(target, health.path), health.timeout)
    except NoAnswer as none:
        return TargetHealth(shown(target), False, error=str(none))
    return judged(shown(target), answer, health, asker)


def judged(target: str, answer: Answer, health: Health, asker: Asker) -> TargetHealth:
    """Hold a health answer against what the catalog wants."""
    if answer.status != health.status:
        return TargetHealth(target, False, error=asker.excerpt(f"HTTP {answer.said}"))
    if health.version is None:
        return TargetHealth(target, True)
    try:
        return TargetHealth(target, True, version_in(answer.text, health.version))
    except ValueError as error:
        return TargetHealth(target, True, error=asker.excerpt(f"{error} in {answer.text}"))
