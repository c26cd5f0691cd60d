"""What a write leaves in the router beside the split: who, which step, the way back, the lease (design, section 4)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from bluegreen.core.colors import Color

CLOCK_SKEW = timedelta(seconds=10)
"""How far the clocks of writer and guard may differ before a lease counts as out."""

NONE = "-"
"""An absent value in the flat form: routers store words, and an empty word is easily lost."""
LONGEST_WHY = 200
"""Characters of a reason that a stamp keeps: it lies in files, annotations and headers of routers."""


class Phase(StrEnum):
    """Where a release stands. The table in the design says what each means for the traffic."""

    CLAIMED = "claimed"
    CANARY = "canary"
    HELD = "held"
    SWITCHED = "switched"
    SETTLED = "settled"
    RESTORED = "restored"
    STRANDED = "stranded"

    @property
    def transitional(self) -> bool:
        """Traffic is at risk: there is a lease, and the guard restores when it runs out."""
        return self in (Phase.CANARY, Phase.HELD, Phase.SWITCHED)

    @property
    def final(self) -> bool:
        """The release is over; nothing of it moves traffic any more."""
        return self in (Phase.SETTLED, Phase.RESTORED, Phase.STRANDED)

    @property
    def way_back(self) -> bool:
        """Written by a restore: such a write takes each node that it reaches."""
        return self in (Phase.RESTORED, Phase.STRANDED)


Expected = tuple[int, str]
"""What a forward shift compares before it writes: (epoch, release)."""


@dataclass(frozen=True)
class Stamp:
    """
    One write's mark in the router.

    :param epoch: grows by one each write, from 1
    :param release: DAG run id and the epoch of its claim, ``run@epoch``
    :param step: the task that wrote, so that a repeated task knows its own write
    :param phase: where the release stands
    :param back_to: the color that a restore goes to, or None
    :param versions: version on each color; a color whose version is not known is absent
    :param lease: absolute UTC time after which the guard restores; None where nothing is at risk
    :param clients_follow_until: absolute UTC time until which clients may still use the old color
    :param at: absolute UTC time of the write
    :param why: one line for people
    """

    epoch: int
    release: str
    step: str
    phase: Phase
    back_to: Color | None = None
    versions: Mapping[Color, str] = field(default_factory=dict)
    lease: datetime | None = None
    clients_follow_until: datetime | None = None
    at: datetime | None = None
    why: str = ""

    def __post_init__(self) -> None:
        if self.epoch < 1:
            raise ValueError(f"an epoch begins at 1, found {self.epoch}")
        if self.phase.transitional != (self.lease is not None):
            raise ValueError(f"phase {self.phase} {'needs a' if self.phase.transitional else 'has no'} lease")

    @property
    def run(self) -> str:
        """The DAG run's id (without the claim's epoch)."""
        return self.release.rpartition("@")[0]

    @property
    def identity(self) -> Expected:
        """What a writer compares: (epoch, release)."""
        return self.epoch, self.release

    def same_write(self, other: Stamp | None) -> bool:
        """Tell whether both are one step's write; lease and time may differ, as a task may be repeated."""
        return other is not None and (self.identity, self.step, self.phase) == (
            other.identity,
            other.step,
            other.phase,
        )

    def lease_out(self, now: datetime) -> bool:
        """Tell whether the owner is dead: the lease ended longer ago than clocks may differ."""
        return self.lease is not None and now > self.lease + CLOCK_SKEW

    def renewed(self, lease: datetime) -> Stamp:
        """Return the stamp with the later one of both leases."""
        return replace(self, lease=max(lease, self.lease) if self.lease else lease)

    def as_fields(self) -> dict[str, str]:
        """Flat words, for any router's own store (map file, annotation, tag, TXT record)."""
        return {
            "epoch": str(self.epoch),
            "release": self.release,
            "step": self.step,
            "phase": str(self.phase),
            "back_to": str(self.back_to or NONE),
            "version_blue": self.versions.get(Color.BLUE, NONE),
            "version_green": self.versions.get(Color.GREEN, NONE),
            "lease": _stamp_time(self.lease),
            "clients_follow_until": _stamp_time(self.clients_follow_until),
            "at": _stamp_time(self.at),
            "why": _short(" ".join(self.why.split())) or NONE,
        }

    @classmethod
    def from_fields(cls, fields: Mapping[str, str]) -> Stamp | None:
        """
        Read what ``as_fields`` wrote.

        :returns: None where there is no stamp at all
        :raises ValueError: a stamp is there, but not readable
        """
        if "epoch" not in fields:
            return None
        try:
            versions = {color: fields.get(f"version_{color}", NONE) for color in Color}
            return cls(
                epoch=int(fields["epoch"]),
                release=fields["release"],
                step=fields["step"],
                phase=Phase(fields["phase"]),
                back_to=None if fields["back_to"] == NONE else Color(fields["back_to"]),
                versions={color: version for color, version in versions.items() if version != NONE},
                lease=_read_time(fields["lease"]),
                clients_follow_until=_read_time(fields.get("clients_follow_until", NONE)),
                at=_read_time(fields.get("at", NONE)),
                why="" if fields.get("why", NONE) == NONE else fields["why"],
            )
        except KeyError as missing:
            raise ValueError(f"the stamp lacks {missing}") from missing


def now_utc() -> datetime:
    """Return the present as aware UTC, to the microsecond, as stamps are: two writers at once must differ in it."""
    return datetime.now(UTC)


def _short(why: str) -> str:
    """Cut a reason so that it shows; in ASCII, as some routers' stores want it."""
    return why if len(why) <= LONGEST_WHY else why[: LONGEST_WHY - 3] + "..."


def _stamp_time(moment: datetime | None) -> str:
    return moment.astimezone(UTC).isoformat(timespec="microseconds") if moment else NONE


def _read_time(text: str) -> datetime | None:
    if text == NONE:
        return None
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"a time has no time zone: {text}")
    return moment
