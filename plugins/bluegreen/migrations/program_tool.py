"""What every tool that is a program shares: its turn, its tries, and what is said when it fails."""

from __future__ import annotations

import logging
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import timedelta
from itertools import chain, repeat
from pathlib import Path
from typing import TypeVar

from bluegreen.catalog.models import Service
from bluegreen.core.errors import MigrationFailed, MigrationRefused
from bluegreen.core.ports import Secrets
from bluegreen.migrations.databases import SqlTrouble, place_of, shown
from bluegreen.migrations.engine import Bounds, engine_of
from bluegreen.migrations.patience import Patience, StatementTrouble
from bluegreen.migrations.ports import Migration, Phase, refuse_early_contract
from bluegreen.migrations.tool_process import ToolProcess
from bluegreen.migrations.turns import Turn
from bluegreen.migrations.witness import Witness

T = TypeVar("T")
Log = Callable[[str], None]
_LOG = logging.getLogger("bluegreen").info
_ONLINE = re.compile(r"\bCONCURRENTLY\b|\bVALIDATE\s+CONSTRAINT\b", re.IGNORECASE)


class ProgramTool(ABC):
    """
    A tool with a history of its own; see ``migrations.ports.Tool``.

    :param service: with a ``migrations`` section whose tool is of this kind
    :param secrets: where the database's login comes from
    :param run: the release; tools have no place for it
    :param log: gets each line of output
    """

    def __init__(self, service: Service, secrets: Secrets, run: str = "", log: Log = _LOG) -> None:  # noqa: ARG002
        if service.migrations is None:
            raise MigrationRefused("it has no migrations", service=service.service, next_step="write migrations")
        self._service, self._log, self._settings = service.service, log, service.migrations
        self._place = place_of(service.service, service.migrations.database, secrets)
        self._engine = engine_of(self._place)
        self._process = ToolProcess(self._place, self._settings, self._folder(), self._timeout(), self._say)

    def pending(self, phase: Phase) -> Sequence[Migration]:
        """
        Return what the tool would execute now; see ``migrations.ports.Tool``.

        :raises MigrationRefused: the compatible half would be executed with the destructive one
        :raises MigrationFailed: the tool does not answer
        """
        if phase is Phase.BACKFILL:
            return []
        found = self._patiently(lambda: self._pending(phase), str(phase))
        if found and phase is Phase.CONTRACT:
            refuse_early_contract(self._service, found, self._patiently(self._expand_left, str(phase)))
        return found

    def apply(self, phase: Phase) -> Sequence[str]:
        """
        Let the tool execute what is pending, in its turn; see ``migrations.ports.Tool``.

        :raises MigrationRefused: see ``pending``
        :raises MigrationBlocked: a lock could not be had in time, or another runner is at it
        :raises MigrationFailed: it ended with an error; names the migration
        """
        turn = Turn(self._place, self._engine, self._settings.retry_for, self._say)
        try:
            self._patiently(turn.session, "turn", turn)
            pending = self.pending(phase)
            tries = chain([pending], repeat(None))
            if pending:
                self._patiently(lambda: self._try(phase, turn, next(tries)), pending[0].name, turn)
            return [one.name for one in pending]
        finally:
            turn.drop()

    @abstractmethod
    def _folder(self) -> Path:
        """Return where its commands run."""

    def _timeout(self) -> timedelta:
        """Return how long one command may take."""
        return timedelta(hours=6)

    @abstractmethod
    def _pending(self, phase: Phase) -> Sequence[Migration]:
        """Ask the tool what it would execute."""

    @abstractmethod
    def _commands(self, phase: Phase, pending: Sequence[Migration]) -> Sequence[tuple[str, ...]]:
        """Return what executes that."""

    def _expand_left(self) -> Sequence[Migration]:
        return self._pending(Phase.EXPAND)

    def _try(self, phase: Phase, turn: Turn, found: Sequence[Migration] | None) -> None:
        """
        Execute what is pending now.

        :param found: that; None where an earlier try may have done some of it
        """
        session = turn.session()
        pending = self._pending(phase) if found is None else found
        sql = "\n".join(one.sql for one in pending)
        self._engine.bound(session, Bounds(self._settings.retry_for, None))
        self._engine.clean(session, sql)
        witness = Witness(self._place, self._engine, self._say)
        try:
            with witness.watching_application(self._settings.lock_timeout.total_seconds() / 4) as seen:
                for argv in self._commands(phase, pending):
                    self._process.execute(argv, online=bool(_ONLINE.search(sql)))
        except SqlTrouble as trouble:
            raise StatementTrouble(trouble, pending[0].name if pending else str(phase), seen.holders) from None
        except MigrationFailed as error:
            raise self._at(phase, error) from None
        finally:
            witness.close()

    def _at(self, phase: Phase, error: MigrationFailed) -> MigrationFailed:
        """Say which migration it was: the first that is pending still."""
        left: Sequence[Migration] = ()
        with suppress(SqlTrouble, MigrationFailed):
            left = self._pending(phase)
        what = f"{left[0].name}: {shown(left[0].sql)}: " if left else ""
        return MigrationFailed(f"{what}{error.fact}", service=self._service, part=error.part, next_step=error.next_step)

    def _patiently(self, action: Callable[[], T], part: str, turn: Turn | None = None) -> T:
        settings = self._settings
        patience = Patience(
            self._service, settings.retry_for, settings.lock_timeout, self._say, lambda: "what the tool asks for"
        )
        return patience.with_it(part, action, turn.drop if turn else lambda: None)

    def _say(self, line: str) -> None:
        self._log(f"{self._service}: {line}")
