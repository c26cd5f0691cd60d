"""Whether a Deployment has what it should have, told by its own status; pure functions over the object."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bluegreen.clusters.objects import Json


@dataclass(frozen=True)
class Rollout:
    """
    How far a Deployment is.

    :param done: all pods are of its present template, ready and available, and there are no others
    :param stopped: why it goes no further by itself, empty while it does
    :param says: one line for people
    """

    done: bool
    stopped: str
    says: str


def rollout(found: Json, stale: Json | None = None) -> Rollout:
    """
    Judge a Deployment.

    :param stale: its ``Progressing`` condition at our write: one that says no more than that is of what was before
    """
    spec, status = found["spec"], found.get("status") or {}
    wanted, generation = spec.get("replicas", 1), found["metadata"].get("generation", 0)
    counts = {name: status.get(f"{name}Replicas", 0) for name in ("updated", "ready", "available")}
    seen = status.get("observedGeneration", 0) >= generation
    done = seen and all(count == wanted for count in counts.values()) and status.get("replicas", 0) == wanted
    told = ", ".join(f"{count} {name}" for name, count in counts.items())
    says = f"{wanted} wanted, {told}" if seen else "the controller has not seen the change yet"
    if failure := condition(found, "ReplicaFailure"):
        says += f"; no pod can be made: {failure.get('message', '')}"
    return Rollout(done, _stopped(found, stale) if seen else "", says)


def _stopped(found: Json, stale: Json | None) -> str:
    if found["spec"].get("paused"):
        return "it is paused"
    progress = condition(found, "Progressing", "False")
    if progress and progress != stale and progress.get("reason") == "ProgressDeadlineExceeded":
        seconds = found["spec"].get("progressDeadlineSeconds", 600)
        return f"no progress within its progressDeadlineSeconds of {seconds} s"
    return ""


def condition(found: Mapping[str, Any], kind: str, status: str = "True") -> Json | None:
    """Return a condition of an object that has this status."""
    conditions = (found.get("status") or {}).get("conditions") or []
    return next((one for one in conditions if (one["type"], one["status"]) == (kind, status)), None)


def ready(pod: Mapping[str, Any]) -> bool:
    """Tell whether a pod takes requests."""
    return condition(pod, "Ready") is not None and not pod["metadata"].get("deletionTimestamp")


def hopeless(pod: Mapping[str, Any]) -> str:
    """Say why a pod will not come up however long it is waited for; empty while it may."""
    for one in container_statuses(pod):
        waiting = (one.get("state") or {}).get("waiting") or {}
        reason, message = waiting.get("reason", ""), waiting.get("message", "")
        if reason in ("InvalidImageName", "ErrImageNeverPull") or (
            reason == "CrashLoopBackOff" and one.get("restartCount", 0) >= 3
        ):
            return f"{pod['metadata']['name']}: container {one['name']}: {reason}: {message}".rstrip(": ")
    return ""


def container_statuses(pod: Mapping[str, Any]) -> list[Json]:
    """Return what is known of a pod's containers, with those that begin it."""
    status = pod.get("status") or {}
    return [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]


def selector(found: Mapping[str, Any]) -> str:
    """Return a Deployment's selector as a query has it."""
    wanted = found["spec"]["selector"]
    words = [f"{key}={value}" for key, value in sorted((wanted.get("matchLabels") or {}).items())]
    for one in wanted.get("matchExpressions") or []:
        values = f" ({','.join(one.get('values') or [])})"
        operator = {"In": " in", "NotIn": " notin"}.get(one["operator"])
        words.append(f"{one['key']}{operator}{values}" if operator else _exists(one))
    return ",".join(words)


def _exists(one: Mapping[str, Any]) -> str:
    return str(one["key"]) if one["operator"] == "Exists" else f"!{one['key']}"
