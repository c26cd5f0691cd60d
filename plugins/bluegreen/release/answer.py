"""Answer: what a person who was asked said, and whether it lets the release go on."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from bluegreen.catalog.approvals import Approval
from bluegreen.catalog.durations import text
from bluegreen.core.errors import NotApproved

APPROVE, REJECT = "Approve", "Reject"
LONGEST_COMMENT = 500


@dataclass(frozen=True)
class Answer:
    """
    One answer.

    :param release: run and claim of the release that was asked about
    :param chosen: ``Approve`` or ``Reject``
    :param by: who answered, for people; None when nobody did and the default was taken
    :param user: the same as Airflow's id, which the catalog names
    :param at: absolute UTC time of the answer
    :param comment: what they wrote, may be empty
    """

    release: str
    chosen: str
    by: str | None
    user: str | None
    at: datetime
    comment: str = ""

    def as_json(self) -> dict[str, Any]:
        """JSON for XCom and reports."""
        return {
            "release": self.release,
            "chosen": self.chosen,
            "by": self.by,
            "at": self.at.isoformat(timespec="seconds"),
            "comment": self.comment,
        }


def who(approval: Approval) -> str:
    """Return who is asked, for people."""
    return ", ".join(approval.by) or "anybody"


def approved(answer: Answer, approval: Approval, until: datetime, service: str, part: str) -> None:
    """
    Let only a yes pass, in time and from somebody who was asked.

    :param until: the deadline, absolute
    :param part: the task that asked
    :raises NotApproved: anything else
    """
    if answer.by is None:
        fact = f"nobody answered within {text(approval.deadline)}"
    elif approval.by and answer.user not in approval.by:  # Airflow lets everybody pass where all are admins
        fact = f"answered by {answer.by}, who was not asked; asked: {who(approval)}"
    elif answer.chosen != APPROVE:
        fact = f"refused by {answer.by}" + (f": {answer.comment}" if answer.comment else "")
    elif answer.at > until:
        fact = f"{answer.by} answered at {answer.at:%H:%M:%S} UTC, the deadline was {until:%H:%M:%S} UTC"
    else:
        return
    raise NotApproved(fact, service=service, part=part, next_step="the release does not go on; start a new one")
