"""The two colors of a service, and how they share its traffic."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Color(StrEnum):
    """One of the two equal environments of a service."""

    BLUE = "blue"
    GREEN = "green"

    @property
    def other(self) -> Color:
        """The color that this one is not."""
        return Color.GREEN if self is Color.BLUE else Color.BLUE


@dataclass(frozen=True)
class Split:
    """
    What share of new requests each color gets, in whole per cent.

    :param blue: blue's share, 0 to 100
    :param green: green's share, 0 to 100; both sum to 100
    :raises ValueError: a share is no whole number from 0 to 100, or they do not sum to 100
    """

    blue: int
    green: int

    def __post_init__(self) -> None:
        for name, share in (("blue", self.blue), ("green", self.green)):
            if isinstance(share, bool) or not isinstance(share, int) or not 0 <= share <= 100:
                raise ValueError(f"{name}'s share must be a whole number from 0 to 100, found {share!r}")
        if self.blue + self.green != 100:
            raise ValueError(f"the shares must sum to 100, found blue {self.blue} + green {self.green}")

    @classmethod
    def whole_on(cls, color: Color) -> Split:
        """All traffic on one color."""
        return cls.giving(color, 100)

    @classmethod
    def giving(cls, color: Color, share: int) -> Split:
        """A share in per cent for one color, the rest for the other."""
        rest = 100 - share
        return cls(share, rest) if color is Color.BLUE else cls(rest, share)

    @classmethod
    def parse(cls, text: str) -> Split:
        """Read what ``str`` wrote: ``90/10`` is blue 90, green 10."""
        blue, _, green = text.partition("/")
        return cls(int(blue), int(green))

    def share(self, color: Color) -> int:
        """The share of one color in per cent."""
        return self.blue if color is Color.BLUE else self.green

    @property
    def whole(self) -> Color | None:
        """The color that has all traffic, or None while it is split."""
        if self.blue == 100:
            return Color.BLUE
        return Color.GREEN if self.green == 100 else None

    def __str__(self) -> str:
        return f"{self.blue}/{self.green}"
