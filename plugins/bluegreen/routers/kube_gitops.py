"""Who else writes an object: what ``managedFields`` and the marks of GitOps tools say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from bluegreen.clusters.objects import MANAGER, Json

KEEPERS = {
    "argocd-controller": "Argo CD",
    "argocd-application-controller": "Argo CD",
    "kustomize-controller": "Flux",
    "helm-controller": "Flux",
    "flagger": "Flagger",
    "rollouts-controller": "Argo Rollouts",
}
"""Field manager -> what writes again and again whatever it keeps."""
MARKS = {
    "argocd.argoproj.io/tracking-id": "Argo CD",
    "argocd.argoproj.io/instance": "Argo CD",
    "kustomize.toolkit.fluxcd.io/name": "Flux",
    "helm.toolkit.fluxcd.io/name": "Flux",
}
"""Label or annotation -> what keeps the object."""
LEFT_ALONE: Mapping[str, Sequence[str]] = {
    "kustomize.toolkit.fluxcd.io/ssa": ("IfNotPresent", "Ignore"),
    "kustomize.toolkit.fluxcd.io/reconcile": ("disabled",),
}
"""Annotations by which Flux leaves an object alone."""


@dataclass(frozen=True)
class Owner:
    """
    Who wrote a field last.

    :param manager: its field manager
    :param at: when that manager last wrote the object
    """

    manager: str
    at: datetime | None


def owners(found: Json, path: Sequence[str]) -> list[Owner]:
    """
    Return who owns a field, or the list that it stands in.

    :param path: as in the object: ``("spec", "http")``
    """
    return [
        Owner(entry.get("manager", ""), _time(entry.get("time")))
        for entry in found["metadata"].get("managedFields") or ()
        if _owns(entry.get("fieldsV1") or {}, path)
    ]


def keeper(found: Json, path: Sequence[str]) -> str:
    """Return which tool would put a field back to what it keeps; empty where none is seen, or it leaves it alone."""
    marks = {**(found["metadata"].get("labels") or {}), **(found["metadata"].get("annotations") or {})}
    tool = next((KEEPERS[owner.manager] for owner in owners(found, path) if owner.manager in KEEPERS), "")
    tool = tool or next((name for mark, name in MARKS.items() if mark in marks), "")
    left_alone = any(marks.get(mark) in values for mark, values in LEFT_ALONE.items())
    return "" if tool == "Flux" and left_alone else tool


def wrote_after_us(found: Json, path: Sequence[str]) -> Owner | None:
    """Return who owns a field that we owned; None where it is ours, or where nobody says."""
    names = owners(found, path)
    return None if not names or any(owner.manager == MANAGER for owner in names) else names[0]


def mend(tool: str, group: str, kind: str) -> str:
    """Return what to write so that a tool leaves our fields alone."""
    if tool == "Argo CD":
        return (
            f'in its Application: ignoreDifferences: [{{group: "{group}", kind: {kind}, managedFieldsManagers: [{MANAGER}]}}] '
            "and syncOptions: [RespectIgnoreDifferences=true]"
        )
    if tool == "Flux":
        return "annotate the object in git with kustomize.toolkit.fluxcd.io/ssa: IfNotPresent; see docs/kubernetes.md"
    return f"{tool} splits traffic itself: let it or us do it, not both"


def _owns(fields: Mapping[str, Mapping[str, object]], path: Sequence[str]) -> bool:
    for word in path:
        inner = fields.get(f"f:{word}")
        if not isinstance(inner, dict):
            return False
        fields = inner
    return True


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
