"""What objects say of themselves, for whoever asks: pure functions over objects."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bluegreen.clusters.objects import DEPLOYMENTS, Json


def condition(found: Mapping[str, Any], kind: str, status: str = "True") -> Json | None:
    """Return a condition of an object that has this status."""
    conditions = (found.get("status") or {}).get("conditions") or []
    return next((one for one in conditions if (one["type"], one["status"]) == (kind, status)), None)


def is_ready(pod: Mapping[str, Any]) -> bool:
    """Tell whether a pod takes new requests."""
    return condition(pod, "Ready") is not None and not pod["metadata"].get("deletionTimestamp")


def is_running(pod: Mapping[str, Any]) -> bool:
    """Tell whether a command can be run in a pod."""
    return (pod.get("status") or {}).get("phase") == "Running"


def scaled_deployment(autoscaler: Mapping[str, Any]) -> str:
    """Return the Deployment that an autoscaler scales; empty where it scales something else."""
    target = autoscaler["spec"]["scaleTargetRef"]
    return str(target["name"]) if target["kind"] == DEPLOYMENTS.name else ""
