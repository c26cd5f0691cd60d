"""One runner at a time in one database: two releases that migrate it take turns."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta

from bluegreen.core.errors import MigrationBlocked
from bluegreen.migrations.databases import Place, Session
from bluegreen.migrations.engine import Engine

_PAUSE = 0.2
"""Seconds between two looks whether it is our turn."""


@dataclass
class Turn:
    """
    The session that has the turn. It ends with the session, however that ends.

    :param wait: how long another runner is waited for
    :param say: gets who is waited for
    """

    place: Place
    engine: Engine
    wait: timedelta
    say: Callable[[str], None]
    _session: Session | None = field(default=None, init=False)

    def session(self) -> Session:
        """
        Return the session; where there is none (any more), connect and wait for the turn.

        :raises SqlTrouble: the database does not answer, or does not let us in
        :raises MigrationBlocked: another runner has it all the time; names it
        """
        if self._session is None:
            session = self.place.connect()
            try:
                self._await(session)
            except BaseException:
                session.close()
                raise
            self._session = session
        return self._session

    def drop(self) -> None:
        """End the session, and the turn with it."""
        if self._session:
            self._session.close()
            self._session = None

    def _await(self, session: Session) -> None:
        end, told = time.monotonic() + self.wait.total_seconds(), False
        while not self.engine.try_turn(session):
            holder = self.engine.turn_holder(session)
            if time.monotonic() >= end:
                raise MigrationBlocked(
                    f"another runner migrates database {self.place.database.name} since before "
                    f"{self.wait.total_seconds():g} s: {holder or 'it has just gone'}",
                    service=self.place.service,
                    next_step="wait until it is through; where its release is dead, end that process "
                    "(SELECT pg_terminate_backend(PID), or KILL) and start this step again",
                )
            if not told and holder:
                self.say(f"another runner is at this database, waiting for it: {holder}")
                told = True
            time.sleep(_PAUSE)
