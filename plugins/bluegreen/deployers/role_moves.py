"""What deployers share that move roles: the order, the patience, and what is said of one that did not move."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Literal

from bluegreen.core.colors import Color
from bluegreen.core.errors import DeployError

ROLE_WAIT = timedelta(seconds=5)
"""How long somebody who moves a role at this moment is waited for: a way back must not stand still for it."""

Verb = Literal["start", "stop"]


def role_moves(color: Color) -> tuple[tuple[Verb, Color], tuple[Verb, Color]]:
    """Return how a role gets onto a color: it stops on the other one first."""
    return ("stop", color.other), ("start", color)


def each_role(roles: Iterable[str], move: Callable[[str], None]) -> None:
    """
    Move each role; the failure of one keeps no other from its color.

    :raises DeployError: of the only one that failed, or of all that did
    """
    failed: list[DeployError] = []
    for role in roles:
        try:
            move(role)
        except DeployError as error:
            failed.append(error)
    if len(failed) > 1:
        raise type(failed[0])(" | ".join(str(error) for error in failed))
    if failed:
        raise failed[0]


def role_error(service: str, role: str, verb: Verb, color: Color, fact: str) -> DeployError:
    """Return the error of a role that did not stop or start on a color."""
    not_stopped = f"it may still run on {color}, so it was not started on {color.other}: end it there by hand"
    return DeployError(
        f"deploy.roles.{role}.{verb}: {fact}",
        service=service,
        part=f"{role} on {color}",
        next_step=not_stopped if verb == "stop" else f"it may run on no color: start it on {color} by hand",
    )
