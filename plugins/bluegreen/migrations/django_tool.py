"""Django: a migration whose name ends in ``_contract`` is destructive; ``sqlmigrate`` prints what would be executed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from bluegreen.catalog.migrations import Django
from bluegreen.core.errors import MigrationRefused
from bluegreen.migrations.ports import Migration, Phase
from bluegreen.migrations.program_tool import ProgramTool

_LINE = re.compile(r"^\[(?P<done>[X ])\]\s+(?P<name>[\w.]+)(?: \.\.\. \((?P<before>[^)]*)\))?", re.MULTILINE)
_ITS_OWN = re.compile(r"^(?:BEGIN|COMMIT);$", re.MULTILINE)


@dataclass(frozen=True)
class _Step:
    """
    One migration of Django's plan.

    :param name: ``app.0001_initial``
    :param before: what it depends on
    """

    name: str
    done: bool
    before: tuple[str, ...]

    @property
    def phase(self) -> Phase:
        return Phase.CONTRACT if self.name.endswith("_contract") else Phase.EXPAND


class DjangoTool(ProgramTool):
    """The tool ``django``; see ``migrations.ports.Tool``."""

    @property
    def _tool(self) -> Django:
        return cast("Django", self._settings.tool)

    def _folder(self) -> Path:
        return self._tool.folder

    def _pending(self, phase: Phase) -> Sequence[Migration]:
        return [Migration(step.name, phase, self._sql(step)) for step in self._steps(phase)]

    def _commands(self, phase: Phase, pending: Sequence[Migration]) -> Sequence[tuple[str, ...]]:  # noqa: ARG002
        return [self._call("migrate", *one.name.split("."), "--noinput") for one in pending]

    def _steps(self, phase: Phase) -> list[_Step]:
        """Return what Django would execute for the phase, in its order; also of other apps, where it depends on them."""
        plan = self._process.read(*self._call("showmigrations", "--plan", "--verbosity", "2", "--no-color"))
        steps = {
            found["name"]: _Step(found["name"], found["done"] == "X", tuple((found["before"] or "").split(", ")))
            for found in _LINE.finditer(plan)
        }
        wanted: set[str] = set()
        for step in steps.values():  # in the plan's order: what is before is met before
            if step.name.partition(".")[0] in self._tool.apps and step.phase is phase and not step.done:
                wanted |= self._with_all_before(step, steps, phase)
        return [step for step in steps.values() if step.name in wanted]

    def _with_all_before(self, step: _Step, steps: dict[str, _Step], phase: Phase) -> set[str]:
        found, left = set[str](), [step.name]
        while left:
            one = steps.get(left.pop())
            if one is None or one.done or one.name in found:
                continue
            if one.phase is Phase.CONTRACT and phase is Phase.EXPAND:
                raise MigrationRefused(
                    f"it depends on {one.name}, which is destructive and not executed yet",
                    service=self._service,
                    part=step.name,
                    next_step="run contract first, or let it depend on what is before that one",
                )
            found.add(one.name)
            left += one.before
        return found

    def _sql(self, step: _Step) -> str:
        return _ITS_OWN.sub(
            "", self._process.read(*self._call("sqlmigrate", *step.name.split("."), "--no-color"))
        ).strip()

    def _call(self, *words: str) -> tuple[str, ...]:
        return (*self._tool.command, *words)
