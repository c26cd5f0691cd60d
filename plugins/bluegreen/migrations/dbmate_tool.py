"""dbmate, with a folder a phase: what would be executed stands between ``-- migrate:up`` and ``-- migrate:down``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import cast

from bluegreen.catalog.migrations import Dbmate
from bluegreen.core.errors import MigrationFailed, MigrationRefused
from bluegreen.migrations.ports import Migration, Phase
from bluegreen.migrations.program_tool import ProgramTool

_LEFT = re.compile(r"^\[ \] (\S+)$", re.MULTILINE)
_UP = re.compile(r"^--\s*migrate:up[^\n]*\n(.*?)(?=^--\s*migrate:down|\Z)", re.MULTILINE | re.DOTALL)


class DbmateTool(ProgramTool):
    """The tool ``dbmate``; see ``migrations.ports.Tool``."""

    @property
    def _tool(self) -> Dbmate:
        return cast("Dbmate", self._settings.tool)

    def _folder(self) -> Path:
        return self._tool.folder

    def _pending(self, phase: Phase) -> Sequence[Migration]:
        self._numbers_differ()
        if not (self._tool.folder / phase).is_dir():
            return []
        return [
            self._migration(name, phase) for name in _LEFT.findall(self._process.read(*self._call(phase, "status")))
        ]

    def _commands(self, phase: Phase, pending: Sequence[Migration]) -> Sequence[tuple[str, ...]]:  # noqa: ARG002
        return [self._call(phase, "migrate")]

    def _call(self, phase: Phase, word: str) -> tuple[str, ...]:
        return (*self._tool.command, "--migrations-dir", str(phase), "--no-dump-schema", word)

    def _migration(self, name: str, phase: Phase) -> Migration:
        path = self._tool.folder / phase / name
        try:
            found = _UP.search(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise MigrationFailed(
                f"cannot be read: {error}", service=self._service, part=str(path), next_step="look at its mode"
            ) from error
        return Migration(name, phase, found[1].strip() if found else "", path)

    def _numbers_differ(self) -> None:
        """Both folders share dbmate's table, which knows numbers only: of two alike one would never be executed."""
        seen: dict[str, Path] = {}
        for path in sorted(self._tool.folder.glob("*/*.sql")):
            number = path.name.partition("_")[0]
            if number in seen:
                raise MigrationRefused(
                    f"it has the number of {seen[number].parent.name}/{seen[number].name}",
                    service=self._service,
                    part=f"{path.parent.name}/{path.name}",
                    next_step="give it a number of its own",
                )
            seen[number] = path
