"""One likely cause of what was found, and whether anything should be there at all."""

from __future__ import annotations

from dataclasses import dataclass

from bluegreen.core.colors import Color
from bluegreen.core.stamp import Phase
from bluegreen.release.facts import Facts


@dataclass(frozen=True)
class Cause:
    """
    One likely cause.

    :param code: stable short name, ``process-not-there``
    :param says: what is the matter, and where, in one line
    :param next_step: the command to type next
    """

    code: str
    says: str
    next_step: str


def expected(facts: Facts, color: Color) -> bool:
    """Tell whether something should run on a color: after ``retire``, and before a first release, nothing does."""
    split, stamp = facts.reading.split if facts.reading else None, facts.stamp
    if split is None or split.share(color) or facts.wanted.get(color):
        return True
    return stamp is not None and (stamp.phase is not Phase.SETTLED or stamp.back_to == color)
