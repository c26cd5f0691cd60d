"""What people are told of a release: each event, how grave it is, and whether it needs a person."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

Event = Literal[
    "started",
    "waiting",
    "unhealthy",
    "restored",
    "rolled_back",
    "finished",
    "conflict",
    "guarded",
    "stranded",
    "overdue",
]
Severity = Literal["critical", "error", "warning", "info"]

SEVERITY: Mapping[Event, Severity] = {
    "started": "info",
    "waiting": "warning",
    "unhealthy": "error",
    "restored": "info",
    "rolled_back": "info",
    "finished": "info",
    "conflict": "error",
    "guarded": "error",
    "stranded": "critical",
    "overdue": "error",
}
"""How grave an event is, in PagerDuty's words."""

ENDS: frozenset[Event] = frozenset({"restored", "rolled_back", "finished"})
"""After these nothing is open any more: the release's alert is closed."""

NEED_PEOPLE: tuple[Event, ...] = tuple(event for event in SEVERITY if event not in ("started", "finished"))
"""What a channel hears of when it does not say otherwise."""


@dataclass(frozen=True)
class Notice:
    """
    One event of one release.

    :param service: name in the catalog
    :param event: what happened; see ``docs/alerts.md``
    :param was: the stamp's phase before; at ``claimed`` no traffic had moved yet, ``unknown`` where no stamp of the run
        was to be seen
    :param why: one line
    :param by: who or what did it
    :param run: DAG run id
    :param release: run and the epoch of its claim; the run alone before it has one
    :param live: the color that has all traffic now, with ``old_version``; None while it is split or nodes differ
    :param version: what is released, or was taken off; None where nothing names it
    :param at: absolute UTC time, ISO 8601
    :param link: where to look, empty where Airflow's address is not known
    """

    service: str
    event: Event
    was: str
    why: str
    by: str
    run: str
    release: str
    live: str | None
    old_version: str | None
    version: str | None
    at: str
    link: str = ""

    @property
    def severity(self) -> Severity:
        """How grave it is."""
        return SEVERITY[self.event]

    @property
    def ends(self) -> bool:
        """Nothing is open any more."""
        return self.event in ENDS

    @property
    def key(self) -> str:
        """What all alerts of one release share, 255 characters at most."""
        return f"{self.service}:{self.release}"[:255]

    @property
    def text(self) -> str:
        """One sentence for people."""
        live = (
            f"{self.live} ({self.old_version or 'version unknown'})" if self.live else "not the same color everywhere"
        )
        moved = "no traffic had moved" if self.was == "claimed" else f"it was {self.was}"
        return f"{self.service}: {self.event.replace('_', ' ')}: live is {live}, {moved}; {self.by}: {self.why}"

    def as_json(self) -> dict[str, Any]:
        """JSON for a webhook; chat systems show ``text``."""
        return {"text": self.text, "severity": self.severity, **asdict(self)}
