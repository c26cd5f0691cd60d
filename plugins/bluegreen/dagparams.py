"""What the form of a DAG run asks for."""

from __future__ import annotations

from airflow.sdk import Param

from bluegreen.catalog.durations import PATTERN, text
from bluegreen.catalog.models import Service


def release_params(service: Service) -> dict[str, Param]:
    """Return what a release is asked."""
    steps, name = service.release.canary, service.service
    watches = ", ".join(text(step.watch) for step in steps) or "none"
    skippable = ["prewarm", "smoke", "canary", "watch"]
    return {
        "version": Param(
            type="string",
            minLength=1,
            maxLength=100,
            pattern=r"^\S+$",
            title="Version",
            description=f"What to release, as the deploy of {name} knows it: 1.5.0",
        ),
        "canary": Param(
            [step.share for step in steps],
            type="array",
            items={"type": "integer", "minimum": 1, "maximum": 99},
            maxItems=len(steps),
            title="Canary steps",
            description="Shares of the traffic in per cent, growing.",
            section="Traffic",
        ),
        "canary_watch": _duration("Watch after each canary step", f"Empty: as in the service file ({watches})."),
        "watch": _duration(
            "Watch after the full switch", f"Empty: as in the service file ({text(service.release.watch)})."
        ),
        "dry_run": Param(
            False,
            type="boolean",
            title="Dry run",
            description="Only show the exact changes, in the log of plan; nothing is touched.",
        ),
        "skip": Param(
            [],
            type="array",
            items={"type": "string", "enum": skippable},
            uniqueItems=True,
            examples=skippable,
            title="Leave out",
            description="Steps to leave out. Needs a reason. Approvals cannot be left out.",
            section="Exceptions",
        ),
        "skip_reason": Param(None, type=["null", "string"], maxLength=200, title="Reason", section="Exceptions"),
    }


def reason_param() -> Param:
    """Return the question why."""
    return Param(
        "asked for in Airflow",
        type="string",
        minLength=1,
        maxLength=200,
        title="Reason",
        description="Stands in the stamp and in the report.",
    )


def _duration(title: str, description: str) -> Param:
    return Param(
        None,
        type=["null", "string"],
        pattern=PATTERN,
        title=title,
        description=description + " Like 30s or 5m.",
        section="Traffic",
    )
