"""
Two databases, one a color: what is written follows the traffic.

The full switch and the way back of it are a cut-over each: writers of the one side wait, the other confirms the last write,
the traffic moves, replication is turned. The way back is never held up for long by a database: see ``Replicated.move``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from bluegreen.catalog.migrations import Database, Replica
from bluegreen.catalog.models import Service
from bluegreen.core.colors import Color
from bluegreen.core.errors import MigrationFailed, RouterError
from bluegreen.core.ports import Secrets
from bluegreen.migrations.ports import Phase
from bluegreen.release.once import Once, Work, beside

if TYPE_CHECKING:  # a driver of PostgreSQL is behind them, which no DAG file's parse may cost
    from bluegreen.migrations.replica_sides import Pair, Side

T = TypeVar("T")
OPENS_WITHIN = timedelta(seconds=3)
"""How long the traffic's way back waits until writers are let on again."""


def replica_of(service: Service) -> Replica | None:
    """Return how a service's two databases are kept alike; None where it has one, or none."""
    return service.migrations.replica if service.migrations else None


def databases(service: Service) -> dict[Color, Database]:
    """Return the database of each color; the same where there is one."""
    assert service.migrations is not None  # noqa: S101 - asked for services with migrations only
    replica, own = service.migrations.replica, service.migrations.database
    return {color: replica.database if replica and color is replica.color else own for color in Color}


@dataclass(frozen=True)
class Replicated:
    """
    One service's two databases.

    :param log: one line for people
    """

    service: Service
    replica: Replica
    secrets: Secrets = field(repr=False)
    log: Callable[[str], None] = field(repr=False)

    def move(self, color: Color, switch: Callable[[], T]) -> T:
        """
        Move the traffic forward, and what is written with it.

        :param switch: moves the traffic; it is called once
        :raises MigrationFailed: the gate is not met; nothing was moved
        :raises MigrationBlocked: a lock could not be had, or a server does not answer; nothing was moved
        """
        moved = Once(switch)
        self._cut(self._sides(), color, moved.offered)
        return moved.taken()

    def move_back(self, color: Color, switch: Callable[[], T], took: Callable[[], bool]) -> T:
        """
        Move the traffic back, and what is written with it where the databases let it.

        The traffic is moved whatever they say, after ``block_writes`` at the latest; writes that were not carried over by
        then are told of.

        :param switch: moves the traffic; it is called once
        :param took: asked when it failed: whether the traffic is there all the same, but for nodes that were not reached
        """
        moved = Once(switch)

        def switched() -> None:
            try:
                moved.offered()
            except RouterError:
                if not took():
                    raise

        try:
            sides = self._sides()  # here, not beside: Airflow is asked by one thread alone
        except Exception as error:  # noqa: BLE001 - the traffic goes back whatever is missing
            self.log(f"the databases do not follow, the traffic goes back all the same: {error}")
            return moved.taken()
        work = beside(lambda: self._cut(sides, color, switched), moved.begun)
        moved.begun.wait(self.replica.block_writes.total_seconds())
        if moved.refuse_offers():
            self._alone(color, sides, work)
            return moved.taken()
        try:
            return moved.taken()
        finally:
            self._ended(color, work)

    def follow(self, live: Color) -> None:
        """
        Hold what is written against where the traffic is; a cut-over that was killed behind its switch is ended.

        :raises MigrationFailed: replication goes the other way: a cut-over would leave out what was written since
        """
        pair = self._finished(self._sides())
        if pair.source.name != live:
            raise MigrationFailed(
                f"the traffic is on {live}, but replication goes from {pair.source.name} to {live}: "
                f"what is written on {live} reaches no other database",
                service=self.service.service,
                part="migrations.replica",
                next_step=f"make {live.other}'s database anew with a copy of {live}'s: docs/replicated-databases.md",
            )

    def gate(self) -> dict[str, Any]:
        """
        Hold replication against what a cut-over needs, now.

        :raises MigrationFailed: it is not met
        """
        from bluegreen.migrations.replica_check import check  # noqa: PLC0415

        return dict(check(self._pair(self._sides()), self.replica))

    def order(self, phase: Phase) -> list[Color]:
        """Return on which color's database a migration runs first: see ``Pair.order``."""
        return [Color(side.name) for side in self._pair(self._sides()).order(phase)]

    def written(self) -> Color:
        """Return whose database is written to; of a cut-over that was killed behind its switch, the new one."""
        pair = self._pair(self._sides())
        return Color(pair.target.name if pair.unfinished else pair.source.name)

    def _pair(self, sides: dict[Color, Side]) -> Pair:
        from bluegreen.migrations.replica_sides import found  # noqa: PLC0415

        return found(sides[self.replica.color.other], sides[self.replica.color], self.replica)

    def _finished(self, sides: dict[Color, Side]) -> Pair:
        """Return the direction; one whose cut-over was killed behind its switch is turned first: traffic has left it."""
        from bluegreen.migrations.replica_cut import cut_over  # noqa: PLC0415

        pair = self._pair(sides)
        if not pair.unfinished:
            return pair
        cut_over(pair, self.replica, lambda: None, self.log)
        return self._pair(sides)

    def _cut(self, sides: dict[Color, Side], color: Color, switch: Callable[[], object]) -> None:
        from bluegreen.migrations.replica_cut import cut_over  # noqa: PLC0415

        pair = self._finished(sides)
        if pair.source.name == color:
            return
        # The gate has waited for the rest before any traffic moved; here a lease runs, and a bad version serves.
        short = {"within": min(self.replica.within, self.replica.block_writes)}
        cut_over(pair, self.replica.model_copy(update=short), switch, self.log)

    def _alone(self, color: Color, sides: dict[Color, Side], work: Work) -> None:
        """Tell why the databases do not go with the traffic, and let writers on where it goes."""
        from bluegreen.migrations.replica_fence import open_again  # noqa: PLC0415

        if work.over and not work.failure:
            self.log(f"{color}'s database is the one that is replicated from: it does not change sides")
        else:
            why = work.failure or f"no cut-over within {self.replica.block_writes.total_seconds():g} s"
            self.log(f"the databases do not follow, the traffic goes back all the same: {why}")
        opened = beside(lambda: open_again(sides[color]))
        if not opened.wait(OPENS_WITHIN) or opened.failure:
            said = type(opened.failure).__name__ if opened.failure else "no answer"
            self.log(f"{color}'s database may still turn writers away: {said}")

    def _ended(self, color: Color, work: Work) -> None:
        if not work.wait(self.replica.block_writes):
            self.log(f"the databases have not followed to {color} yet, and nobody waits for them")
        elif work.failure:
            self.log(f"the databases did not follow to {color}: {work.failure}")

    def _sides(self) -> dict[Color, Side]:
        from bluegreen.migrations.databases import place_of  # noqa: PLC0415
        from bluegreen.migrations.pg_session import conninfo, opened  # noqa: PLC0415
        from bluegreen.migrations.replica_sides import Side  # noqa: PLC0415

        places = {c: place_of(self.service.service, one, self.secrets) for c, one in databases(self.service).items()}
        return {c: Side(str(c), partial(opened, place), conninfo(place)) for c, place in places.items()}
