"""Sees who holds a lock while one of our statements waits for it: afterwards nobody can tell."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from bluegreen.migrations.databases import Place, Session, SqlTrouble
from bluegreen.migrations.engine import Engine


@dataclass
class Seen:
    """
    What was seen while one statement ran.

    :param holders: who held what it last waited for; none where it never waited
    """

    holders: Sequence[str] = ()


@dataclass
class Witness:
    """
    Asks on a connection of its own, which is made when a statement first takes longer than a moment.

    :param say: gets who is waited for, once for each
    """

    place: Place
    engine: Engine
    say: Callable[[str], None]
    _session: Session | None = field(default=None, init=False)

    @contextmanager
    def watching(self, pid: int, every: float) -> Iterator[Seen]:
        """
        Look at a session until the block ends.

        :param every: seconds between two looks
        """
        with self._beside(lambda session: self.engine.holders(session, pid), every) as seen:
            yield seen

    @contextmanager
    def watching_application(self, every: float) -> Iterator[Seen]:
        """
        Look at every session of a tool, which bears our name, until the block ends.

        :param every: seconds between two looks
        """
        with self._beside(self.engine.holders_of_tools, every) as seen:
            yield seen

    @contextmanager
    def _beside(self, ask: Callable[[Session], list[str]], every: float) -> Iterator[Seen]:
        seen, over = Seen(), threading.Event()
        thread = threading.Thread(target=self._look, args=(ask, every, seen, over), daemon=True)
        thread.start()
        try:
            yield seen
        finally:
            over.set()
            thread.join()

    def close(self) -> None:
        """End its connection."""
        if self._session:
            self._session.close()
            self._session = None

    def _look(self, ask: Callable[[Session], list[str]], every: float, seen: Seen, over: threading.Event) -> None:
        while not over.wait(every):
            try:
                self._session = self._session or self.place.connect()
                found = ask(self._session)
            except SqlTrouble:
                self.close()  # the next look connects anew; without a witness the statement is as good
                continue
            if over.is_set():
                return
            if found:
                news = [holder for holder in found if _process(holder) not in map(_process, seen.holders)]
                seen.holders = found
                with suppress(Exception):
                    for holder in news:
                        self.say(f"waits for {holder}")


def _process(holder: str) -> str:
    """Return what stays the same of a holder from one look to the next."""
    return holder.partition(")")[0]
