"""PodDisruptionBudgets that both colors share: what a retire takes away may be missed by what is live."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from bluegreen.clusters.objects import DISRUPTION_BUDGETS, Json
from bluegreen.core.colors import Color
from bluegreen.deployers.kube_objects import Objects


def in_the_way(objects: Objects, color: Color, found: Json, live: Json | None, pods: int) -> Iterator[tuple[str, str]]:
    """
    Yield each budget that would be broken without a color's pods, with the numbers.

    One that the other color has no part in protects nobody who is served: the color has no traffic. One that says what
    may be missing, or a percentage, follows the number of pods that there are, and so is never broken by a scaling.

    :param found: the color's Deployment
    :param live: the other color's
    :param pods: ready pods of the color
    :raises DeployError: they cannot be read
    """
    if live is None or not pods:
        return
    for budget in objects.all(DISRUPTION_BUDGETS, color):
        chosen, wanted = budget["spec"].get("selector"), budget["spec"].get("minAvailable")
        if chosen is None or not all(_chooses(chosen, _labels(one)) for one in (found, live)):
            continue
        left = (budget.get("status") or {}).get("currentHealthy", 0) - pods
        if isinstance(wanted, int) and left < wanted:
            yield budget["metadata"]["name"], f"{wanted} healthy pods are wanted, {left} would be left"


def _labels(deployment: Mapping[str, Any]) -> Mapping[str, str]:
    return deployment["spec"]["template"]["metadata"].get("labels") or {}


def _chooses(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Tell whether a label selector chooses what bears some labels; an empty one chooses everything."""
    named = all(labels.get(key) == value for key, value in (selector.get("matchLabels") or {}).items())
    return named and all(_holds(one, labels) for one in selector.get("matchExpressions") or [])


def _holds(one: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    found, operator = labels.get(one["key"]), one["operator"]
    if operator in ("Exists", "DoesNotExist"):
        return (found is not None) is (operator == "Exists")
    return (found in (one.get("values") or [])) is (operator == "In")
