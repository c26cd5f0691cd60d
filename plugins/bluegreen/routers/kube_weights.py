"""Weights of two colors side by side in an object, as a VirtualService's routes and a Gateway API route's rules have them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from bluegreen.clusters.objects import Json
from bluegreen.core.colors import Color, Split
from bluegreen.core.reading import NodeReading
from bluegreen.routers.kube_nodes import ObjectNode, Operation, Routed
from bluegreen.routers.kube_sizes import share_of


@dataclass(frozen=True)
class Destinations:
    """
    One place of an object that names destinations.

    :param says: how people call it: ``route web``
    :param path: of the list of destinations, as a JSON pointer
    :param colors: the color of each destination, in order; None for one that is neither
    :param weights: the weight of each
    :param pinned: it takes requests with a header or a query parameter only, such as testers send
    """

    says: str
    path: str
    colors: Sequence[Color | None]
    weights: Sequence[int]
    pinned: bool = False

    @property
    def both(self) -> bool:
        """Tell whether its destinations are the two colors, each once, and nothing else."""
        return sorted(self.colors, key=str) == sorted(Color, key=str)

    @property
    def one(self) -> Color | None:
        """The color that it sends all its requests to, if it names nothing else."""
        return self.colors[0] if len(set(self.colors)) == 1 else None

    @property
    def stays(self) -> str:
        """Say why some users' requests stay on a color, whatever the split is; empty where none do."""
        named = {color for color in self.colors if color}
        if not named or self.both or (self.pinned and len(named) == 1):
            return ""
        if self.one:
            return f"{self.says} sends all its requests to {self.one}, whatever the split is"
        goes = ", ".join(str(color or "another") for color in self.colors)
        return f"{self.says} sends its requests to {goes}, whatever the split is: one of each color can be split, and nothing else"

    @property
    def split(self) -> Split | None:
        """What the weights make; None for 0/0, and where it has not both."""
        weight = dict(zip(self.colors, self.weights, strict=True))
        if not self.both or not any(self.weights):
            return None
        return Split.giving(Color.GREEN, share_of(weight[Color.GREEN], weight[Color.BLUE]))

    @property
    def found(self) -> str:
        """Its split or what is wrong with it, for people."""
        if self.split:
            return f"{self.says} {self.split}"
        weights = "/".join(str(weight) for weight in self.weights)
        return f"{self.says} has weights {weights}" if self.both else f"{self.says} does not carry both colors"

    def edits(self, split: Split) -> Iterator[Operation]:
        """Yield what gives it a split."""
        for number, color in enumerate(self.colors if self.split != split else ()):
            if color:
                yield {"op": "add", "path": f"{self.path}/{number}/weight", "value": split.share(color)}


def routed(carrying: Sequence[Destinations], nothing: str) -> Routed:
    """
    Return the split that all these places agree on.

    :param carrying: the places that must carry the colors
    :param nothing: what to say where there is none
    """
    if not carrying:
        return Routed(None, nothing)
    if bad := [one.found for one in carrying if one.split is None]:
        return Routed(None, ", ".join(bad))
    if len({one.split for one in carrying}) > 1:
        return Routed(None, f"they differ: {', '.join(one.found for one in carrying)}")
    return Routed(carrying[0].split)


def edits(carrying: Sequence[Destinations], split: Split) -> Sequence[Operation]:
    """Return what gives all of them a split; nothing beside their weights is touched."""
    return [operation for one in carrying if one.both for operation in one.edits(split)]


def by_color(names: Mapping[Color, Json], destination: Json) -> Color | None:
    """Return the color whose every key is as the destination has it."""
    return next((color for color, keys in names.items() if keys.items() <= destination.items()), None)


def pinned(matches: Sequence[Json]) -> bool:
    """Tell whether requests are taken by a header or a query parameter only, such as testers send."""
    return bool(matches) and all(one.get("headers") or one.get("queryParams") for one in matches)


class WeightedNode(ObjectNode):
    """One object that has weights in one or more places."""

    nothing: ClassVar[str]
    """What is said of an object without such a place."""

    mend_stays: ClassVar[str]
    """What to do about a place that keeps requests on a color, whatever the split is."""

    def places(self, found: Json) -> list[Destinations]:
        """Return every place, with the colors that it names."""
        raise NotImplementedError

    def carrying(self, found: Json) -> list[Destinations]:
        """Return the places whose weights are ours."""
        return [one for one in self.places(found) if one.both]

    def staying(self, found: Json) -> Iterator[tuple[str, str]]:
        """Yield what keeps some users' requests on a color, whatever the split is, and what to do about it."""
        for one in self.places(found):
            if one.stays:
                yield f"{self.says}: {one.stays}", self.mend_stays

    def require_targets(self, node: NodeReading, to: Split) -> None:
        """Refuse, too, where some requests would stay on a color that is retired in the end."""
        with self.errors():
            stays = next(self.staying(self.cluster.get(self.kind, self.target)), None)
        if stays:
            raise self.refused(*stays)
        super().require_targets(node, to)

    def routed(self, found: Json, fields: Mapping[str, str]) -> Routed:
        """Read the weights."""
        del fields
        return routed(self.carrying(found), self.nothing)

    def edits(self, found: Json, split: Split) -> Sequence[Operation]:
        """Return the operations on the weights."""
        return edits(self.carrying(found), split)
