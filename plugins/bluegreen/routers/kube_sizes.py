"""
The share of a color on a plain Service: how many of its pods stand beside the other color's.

The live color keeps its size, so that a share is ``pods / (live + pods)``, and most shares cannot be made.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass

from bluegreen.clusters.objects import AUTOSCALERS, DEPLOYMENTS, Cluster
from bluegreen.clusters.status import scaled_deployment
from bluegreen.clusters.trouble import ClusterTrouble
from bluegreen.core.colors import Color, Split
from bluegreen.core.errors import UnsupportedSplit

MEND_AUTOSCALER = "a share on a plain Service is a number of pods: take the autoscaler out, or use istio, gateway_api"
CLOSE = 1.0
"""How far from what was asked for, in points of a per cent, a share may be: one of eleven pods is taken for 10 %."""


@dataclass(frozen=True)
class Sizes:
    """
    What there is to make a share of.

    :param live: pods of the color that keeps its size
    :param full: most pods of the other one
    """

    live: int
    full: int

    def pods_for(self, share: int) -> int | None:
        """Return how many pods make a share in per cent, 1 to 99; None where no number comes close."""
        pods = min(self.full, max(1, round(share * self.live / (100 - share))))
        close = self.live > 0 and pods > 0 and abs(100 * pods / (self.live + pods) - share) <= CLOSE
        return pods if close else None

    def need(self, service: str, node: str, split: Split, color: Color) -> int:
        """
        Return how many pods of a color make its share of a split.

        :raises UnsupportedSplit: no number does
        """
        if (pods := self.pods_for(split.share(color))) is not None:
            return pods
        made = ", ".join(str(share) for share in self.shares) or "no share at all"
        fact = f"wanted {split}: beside {self.live} pods of {color.other}, up to {self.full} of {color} make {made} %"
        step = "nothing was moved; give release.canary such shares, or use a router with weights: istio, gateway_api"
        raise UnsupportedSplit(fact, service=service, part=node, next_step=step)

    @property
    def step(self) -> int:
        """The share of one pod in per cent: no share is finer."""
        return round(100 / (self.live + 1)) if self.full else 100

    @property
    def shares(self) -> tuple[int, ...]:
        """The shares that can be made, in per cent."""
        return tuple(share_of(pods, self.live) for pods in range(1, self.full + 1)) if self.live else ()


def share_of(pods: int, others: int) -> int:
    """Return the share of some pods beside others in whole per cent; no share is quite all or nothing."""
    return min(99, max(1, round(100 * pods / (pods + others)))) if pods and others else (100 if pods else 0)


Sized = tuple[int, ...]
"""A color's size before a share was made of it, and then the sizes that it was given."""


@dataclass(frozen=True)
class Making:
    """
    A split that needs pods.

    :param color: the color that is scaled
    :param pods: to how many
    :param now: how many it has
    :param full: how many it had before the first share
    """

    color: Color
    pods: int
    now: int
    full: int

    @property
    def words(self) -> dict[str, str]:
        """What stands beside the stamp: which color is scaled."""
        return {"scaled": str(self.color)}

    @property
    def size(self) -> Sized:
        """What is noted before it is scaled: it may have the size of today or the new one, should nobody come to scale."""
        return self.full, self.now, self.pods

    def done(self, *, widened: bool) -> bool:
        """Tell whether a share stands already, so that writing its stamp is all there is to do."""
        return widened and self.pods == self.now


def full_size(color: Color, now: int, sizes: Mapping[Color, Sized]) -> int:
    """
    Return how many pods a color has when it is not scaled to a share.

    :param now: how many it has
    """
    full, *given = sizes.get(color, (now,))
    return full if now in given else now  # somebody gave it another size since: that counts


class Scales:
    """
    The Deployments whose sizes make a share.

    :param cluster: their namespace
    :param names: the Deployment of each color
    """

    def __init__(self, cluster: Cluster, names: Mapping[Color, str]) -> None:
        self.cluster, self.names = cluster, names

    def autoscalers(self) -> Iterator[str]:
        """Say which autoscalers would move a share, as they size its Deployments by themselves."""
        for one in self.cluster.list(AUTOSCALERS).items:
            if (name := scaled_deployment(one)) in self.names.values():
                fact = f"HorizontalPodAutoscaler {one['metadata']['name']} scales Deployment {name}"
                yield f"{fact}, and would move the canary's share"

    def pods(self, color: Color) -> int:
        """Return how many pods a color is to have."""
        return int(self.cluster.get(DEPLOYMENTS, self.names[color], "scale")["spec"].get("replicas", 0))

    def both(self) -> dict[Color, int]:
        """Return how many pods each color is to have."""
        return {color: self.pods(color) for color in Color}

    def give(self, color: Color, pods: int) -> None:
        """Scale a color."""
        operation = {"op": "replace", "path": "/spec/replicas", "value": pods}
        self.cluster.patch(DEPLOYMENTS, self.names[color], [operation], "scale")

    def back_to_full(self, sizes: Mapping[Color, Sized]) -> None:
        """Give colors the size back that they had before a share, as far as it can be had: no traffic waits for it."""
        with suppress(ClusterTrouble):
            for color in sizes:
                now = self.pods(color)
                if (full := full_size(color, now, sizes)) > now:
                    self.give(color, full)

    def split(self, stamped: Split | None, scaled: str | None) -> Split:
        """
        Return the split that the sizes make.

        :param stamped: what was written; it counts where the sizes are those that make it
        :param scaled: the color that was scaled for it
        """
        pods = self.both()
        if stamped and scaled and stamped.whole is None:
            color = Color(scaled)
            if Sizes(pods[color.other], pods[color]).pods_for(stamped.share(color)) == pods[color]:
                return stamped
        return Split.giving(Color.GREEN, share_of(pods[Color.GREEN], pods[Color.BLUE]))
