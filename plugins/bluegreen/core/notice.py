"""What people are told when somebody, or something, put traffic back."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from bluegreen.core.stamp import Phase

Event = Literal["restored", "stranded", "rolled_back"]


@dataclass(frozen=True)
class Notice:
    """
    One way back that was taken.

    :param service: name in the catalog
    :param event: ``restored``: a release under way was put back; ``stranded``: it was left on the new color, as the old
        one does not serve; ``rolled_back``: a settled release was undone
    :param was: the phase that was left; at ``claimed`` no traffic had moved yet
    :param why: one line
    :param by: who or what did it
    :param run: DAG run id whose traffic it was
    :param live: the color that has all traffic now, with ``old_version``; None while nodes differ
    :param version: what was taken off, None where no stamp names it
    :param at: absolute UTC time of the write, ISO 8601
    :param link: where to look, empty where Airflow's address is not known
    """

    service: str
    event: Event
    was: Phase
    why: str
    by: str
    run: str
    live: str | None
    old_version: str | None
    version: str | None
    at: str
    link: str = ""

    @property
    def text(self) -> str:
        """One sentence for people."""
        live = (
            f"{self.live} ({self.old_version or 'version unknown'})" if self.live else "not the same color everywhere"
        )
        moved = "no traffic had moved" if self.was is Phase.CLAIMED else f"it was {self.was}"
        return f"{self.service}: {self.event.replace('_', ' ')}: live is {live}, {moved}; {self.by}: {self.why}"

    def as_json(self) -> dict[str, Any]:
        """JSON for a webhook; chat systems show ``text``."""
        return {"text": self.text, **asdict(self)}
