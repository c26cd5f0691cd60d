"""Where a release asks people, and until when."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from pydantic import Field

from bluegreen.catalog.durations import Duration
from bluegreen.catalog.section import Section

_LEAST = timedelta(seconds=1)


class Approval(Section):
    """A person who must say yes before the release goes on."""

    by: tuple[Annotated[str, Field(min_length=1)], ...] = Field(
        (), description="ids of the Airflow users who are asked; empty: whoever may answer in Airflow"
    )
    deadline: Duration = Field(timedelta(hours=1), ge=_LEAST, description="no answer until then is a no")


class HeldApproval(Approval):
    """The same while the canary holds its share: real users are served by a version that nobody has let in yet."""

    deadline: Duration = Field(
        timedelta(minutes=30), ge=_LEAST, le=timedelta(hours=4), description="no answer until then is a no"
    )


class Approvals(Section):
    """Where people are asked; a place that is left out asks nobody."""

    before_canary: Approval | None = Field(None, description="after the smoke tests, before any traffic")
    before_switch: HeldApproval | None = Field(None, description="after the last canary, which holds its share")
    unknown: HeldApproval | None = Field(
        HeldApproval(),
        description="when a watch ends with too little evidence: the traffic stays as it is until the answer. "
        "null: it is put back at once",
    )
