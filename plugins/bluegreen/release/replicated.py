"""
Two databases, one a color: what is written follows the traffic.

The full switch and the way back of it are a cut-over each: writers of the one side wait, the other confirms the last write,
the traffic moves, replication is turned. The way back is never held up for long by a database: see ``Replicated.move``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from bluegreen.catalog.migrations import Database, Replica
from bluegreen.catalog.models import Service
from bluegreen.core.colors import Color
from bluegreen.core.errors import BlueGreenError
from bluegreen.core.ports import Secrets
from bluegreen.migrations.ports import Phase

if TYPE_CHECKING:  # a driver of PostgreSQL is behind them, which no DAG file's parse may cost
    from bluegreen.migrations.replica_sides import Pair, Side

T = TypeVar("T")


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

    def move(self, color: Color, switch: Callable[[], T], *, way_back: bool = False) -> T:
        """
        Move the traffic, and what is written with it.

        :param switch: moves the traffic; it may be called once
        :param way_back: the traffic is moved whatever the databases say, after ``block_writes`` at the latest where they
            do not answer; writes that were not carried over by then are told of
        :raises MigrationFailed: forward only: the gate is not met; nothing was moved
        """
        moved = _Once(switch)
        try:
            self._cut(color, moved)
        except BlueGreenError as error:
            if not way_back or moved.failed:
                raise
            self.log(f"the databases did not follow, the traffic goes back all the same: {error}")
            self._open(color)
        return moved()

    def pair(self) -> Pair:
        """
        Return the direction that replication has now.

        :raises MigrationFailed: there is none, or one in each direction
        """
        from bluegreen.migrations.replica_sides import found  # noqa: PLC0415

        sides = self._sides()
        return found(sides[self.replica.color.other], sides[self.replica.color], self.replica)

    def gate(self) -> dict[str, Any]:
        """
        Hold replication against what a cut-over needs, now.

        :raises MigrationFailed: it is not met
        """
        from bluegreen.migrations.replica_check import check  # noqa: PLC0415

        return dict(check(self.pair(), self.replica))

    def order(self, phase: Phase) -> list[Color]:
        """Return on which color's database a migration runs first: see ``Pair.order``."""
        return [Color(side.name) for side in self.pair().order(phase)]

    def written(self) -> Color:
        """Return whose database is written to."""
        return Color(self.pair().source.name)

    def _cut(self, color: Color, moved: _Once[T]) -> None:
        from bluegreen.migrations.replica_cut import cut_over  # noqa: PLC0415

        pair = self.pair()
        if pair.source.name == color and not pair.unfinished:
            return
        # The gate has waited for the rest before any traffic moved; here a lease runs, and a bad version serves.
        short = {"within": min(self.replica.within, self.replica.block_writes)}
        cut_over(pair, self.replica.model_copy(update=short), moved, self.log)

    def _open(self, color: Color) -> None:
        from bluegreen.migrations.replica_fence import open_again  # noqa: PLC0415

        try:
            open_again(self._sides()[color])
        except Exception as error:  # noqa: BLE001 - the traffic goes back whatever a database says
            self.log(f"{color}'s database may still turn writers away: {type(error).__name__}")

    def _sides(self) -> dict[Color, Side]:
        from bluegreen.migrations.databases import place_of  # noqa: PLC0415
        from bluegreen.migrations.pg_session import conninfo, opened  # noqa: PLC0415
        from bluegreen.migrations.replica_sides import Side  # noqa: PLC0415

        places = {c: place_of(self.service.service, one, self.secrets) for c, one in databases(self.service).items()}
        return {c: Side(str(c), partial(opened, place), conninfo(place)) for c, place in places.items()}


class _Once(Generic[T]):
    """
    A switch that moves the traffic once, however often it is called.

    :param switch: moves it
    """

    def __init__(self, switch: Callable[[], T]) -> None:
        self._switch, self._done, self._tried = switch, list[T](), False

    @property
    def failed(self) -> bool:
        """It was tried, and did not succeed."""
        return self._tried and not self._done

    def __call__(self) -> T:
        if not self._done:
            self._tried = True
            self._done.append(self._switch())
        return self._done[0]
