"""Alembic with a labelled branch a phase; what would be executed is what it prints with ``--sql``."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import cast

from bluegreen.catalog.migrations import Alembic
from bluegreen.migrations.ports import Migration, Phase
from bluegreen.migrations.program_tool import ProgramTool

_RUNNING = re.compile(r"^-- Running upgrade (?P<from>.*?) -> (?P<to>\w+)$", re.MULTILINE)
# Alembic's own: its transactions, and the notes in its table.
_ITS_OWN = re.compile(
    r"^(?:BEGIN|COMMIT);$|^(?:CREATE TABLE|INSERT INTO|UPDATE|DELETE FROM) alembic_version\b.*?;$",
    re.MULTILINE | re.DOTALL,
)
_REVISION = re.compile(r"^Rev: (?P<revision>\w+)[^\n]*\n(?P<rest>.*?)(?=^Rev: |\Z)", re.MULTILINE | re.DOTALL)
_BEFORE = re.compile(r"^(?:Parents?|Merges|Also depends on): (.*)$", re.MULTILINE)
_BRANCHES = re.compile(r"^Branch names: (.*)$", re.MULTILINE)


class AlembicTool(ProgramTool):
    """The tool ``alembic``; see ``migrations.ports.Tool``."""

    @property
    def _tool(self) -> Alembic:
        return cast("Alembic", self._settings.tool)

    def _folder(self) -> Path:
        return self._tool.config.parent

    def _pending(self, phase: Phase) -> Sequence[Migration]:
        history = self._process.read(*self._call("history", "--verbose"))
        current = re.findall(r"^(\w+)", self._process.read(*self._call("current")), re.MULTILINE)
        done = _with_all_before(current, history)
        start = self._start(phase, current, history)
        printed = self._process.read(*self._call("upgrade", f"{start}:{self._target(phase)}", "--sql"))
        return [Migration(revision, phase, sql) for revision, sql in _revisions(printed) if revision not in done]

    def _commands(self, phase: Phase, pending: Sequence[Migration]) -> Sequence[tuple[str, ...]]:  # noqa: ARG002
        return [self._call("upgrade", self._target(phase))]

    def _start(self, phase: Phase, current: Sequence[str], history: str) -> str:
        """Return what is executed of the phase's branch, so that no old revision need be able to print itself."""
        label = self._target(phase).partition("@")[0]
        branches = {found["revision"]: _words(_BRANCHES, found["rest"]) for found in _REVISION.finditer(history)}
        return next((revision for revision in current if label in branches.get(revision, ())), "base")

    def _target(self, phase: Phase) -> str:
        return self._tool.expand if phase is Phase.EXPAND else self._tool.contract

    def _call(self, *words: str) -> tuple[str, ...]:
        return (*self._tool.command, "-c", self._tool.config.name, *words)


def _with_all_before(revisions: Sequence[str], history: str) -> set[str]:
    """Return revisions and all that they come after or depend on."""
    before: Mapping[str, Sequence[str]] = {
        found["revision"]: _words(_BEFORE, found["rest"]) for found in _REVISION.finditer(history)
    }
    done: set[str] = set()
    left = list(revisions)
    while left:
        revision = left.pop()
        if revision not in done:
            done.add(revision)
            left += before.get(revision, ())
    return done


def _words(line: re.Pattern[str], text: str) -> list[str]:
    return [word for found in line.findall(text) for word in re.findall(r"[\w-]+", found) if word != "base"]


def _revisions(printed: str) -> Iterator[tuple[str, str]]:
    starts = list(_RUNNING.finditer(printed))
    ends = [*(found.start() for found in starts[1:]), len(printed)]
    for found, end in zip(starts, ends, strict=False):
        yield found["to"], re.sub(r"\n{3,}", "\n\n", _ITS_OWN.sub("", printed[found.end() : end])).strip()
