"""Roles in a namespace: worker Deployments and a timetable's CronJobs, and what is really done with them."""

from __future__ import annotations

import json
from typing import Any

from bluegreen.core.colors import Color
from bluegreen.deployers.kube_marks import VERSION_LABEL
from demo.kubernetes import pods
from demo.kubernetes.namespace import Namespace, deployment

KINDS = {"worker": "Deployment", "cron": "CronJob"}
VERSIONS = {Color.BLUE: "1.0", Color.GREEN: "2.0"}


def section(timeout: str) -> dict[str, Any]:
    """Return ``deploy.roles`` of a service file."""
    names = {role: {str(color): f"shop-{role}-{color}" for color in Color} for role in KINDS}
    return {
        "worker": {"deployments": names["worker"], "replicas": 2, "timeout": timeout},
        "cron": {"cron_jobs": names["cron"], "timeout": timeout},
    }


class KubeRoles:
    """
    The two roles, stopped on both colors at first; what is done with them is read from the API server's own history.

    :param namespace: where they are
    """

    def __init__(self, namespace: Namespace) -> None:
        self.namespace = namespace
        for color in Color:
            namespace.apply(_worker(color), _cron(color))
        self._since = {kind: self._listed(kind)["metadata"]["resourceVersion"] for kind in KINDS.values()}

    def runs(self, role: str) -> set[Color]:
        """Tell on which colors a role really runs."""
        if role == "worker":
            return {color for color in Color if self.namespace.list("Pod", f"app=shop-worker-{color}")}
        jobs = {color: self.namespace.get("CronJob", f"shop-cron-{color}") for color in Color}
        return {color for color, job in jobs.items() if not job["spec"]["suspend"]}

    def moves(self) -> list[str]:
        """Return what was really done with roles, in its order."""
        running, moved = set[str](), []
        for item in sorted(self._changes(), key=lambda item: int(item["metadata"]["resourceVersion"])):
            role, _, color = item["metadata"]["name"].removeprefix("shop-").partition("-")
            if role not in KINDS:
                continue
            runs = bool(item["spec"].get("replicas")) if role == "worker" else not item["spec"]["suspend"]
            if runs != (f"{role} {color}" in running):
                moved.append(f"{'start' if runs else 'stop'} {role} on {color} {VERSIONS[Color(color)]}")
                (running.add if runs else running.discard)(f"{role} {color}")
        return moved

    def stick(self, role: str, color: Color, *, sticks: bool = True) -> None:
        """Let a worker's pods not end any more."""
        assert role == "worker"
        for pod in self.namespace.list("Pod", f"app=shop-worker-{color}"):
            name = pod["metadata"]["name"]
            if sticks:
                annotations = {pods.ENDS_AFTER: "1h"}
                self.namespace.patch("Pod", name, {"metadata": {"annotations": annotations}})
            else:
                self.namespace.kubectl("delete", "pod", name, "--grace-period=0", "--force")

    def _changes(self) -> list[dict[str, Any]]:
        """Return each state that each object had since the beginning."""
        found = []
        for kind, since in self._since.items():
            query = {"watch": "true", "resourceVersion": since, "timeoutSeconds": "1"}
            plane = self.namespace.plane
            url = f"{plane.url}/{self.namespace.path(kind)}"
            answer = plane.session.get(url, params=query, verify=str(plane.ca), timeout=30)
            found += [json.loads(line)["object"] for line in answer.text.splitlines()]
        return found

    def _listed(self, kind: str) -> dict[str, Any]:
        found: dict[str, Any] = self.namespace.plane.ask("GET", self.namespace.path(kind))
        return found


def _worker(color: Color) -> dict[str, Any]:
    found = deployment(f"shop-worker-{color}", 0, color=str(color))
    metadata = found["spec"]["template"]["metadata"]
    metadata["labels"] = metadata["labels"] | {VERSION_LABEL: VERSIONS[color]}
    return found


def _cron(color: Color) -> dict[str, Any]:
    pod = {"restartPolicy": "Never", "containers": [{"name": "app", "image": "shop:1"}]}
    metadata = {"labels": {VERSION_LABEL: VERSIONS[color]}, "annotations": {pods.AFTER: "4s"}}
    template = {"metadata": metadata, "spec": pod}
    spec = {"schedule": "0 3 * * *", "suspend": True, "jobTemplate": {"spec": {"template": template}}}
    return {"kind": "CronJob", "metadata": {"name": f"shop-cron-{color}"}, "spec": spec}
