"""Any migration tool by its commands: two that execute, and two that print what would be executed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import cast

from bluegreen.catalog.migrations import AnyTool
from bluegreen.migrations.ports import Migration, Phase
from bluegreen.migrations.program_tool import ProgramTool


class CommandTool(ProgramTool):
    """The tool ``command``; see ``migrations.ports.Tool``."""

    @property
    def _tool(self) -> AnyTool:
        return cast("AnyTool", self._settings.tool)

    def _folder(self) -> Path:
        return self._tool.folder

    def _timeout(self) -> timedelta:
        return self._tool.timeout

    def _pending(self, phase: Phase) -> Sequence[Migration]:
        command = self._tool.expand_sql if phase is Phase.EXPAND else self._tool.contract_sql
        sql = self._process.read(*command)
        return [Migration(str(phase), phase, sql)] if sql.strip() else []

    def _commands(self, phase: Phase, pending: Sequence[Migration]) -> Sequence[tuple[str, ...]]:  # noqa: ARG002
        return [self._tool.expand if phase is Phase.EXPAND else self._tool.contract]
