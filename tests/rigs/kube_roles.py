"""Roles in a namespace: worker Deployments and a timetable's CronJobs, and what is really done with them."""

from __future__ import annotations

import json
import threading
from typing import Any

import requests

from bluegreen.core.colors import Color
from bluegreen.deployers.kube_marks import VERSION_LABEL
from demo.processes import wait_until
from tests.rigs import kube_pods
from tests.rigs.kube_namespace import Namespace, deployment

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
    The two roles, stopped on both colors at first; each move is read from a watch of the API server's.

    :param namespace: where they are
    """

    def __init__(self, namespace: Namespace) -> None:
        self.namespace = namespace
        self._moves: list[tuple[int, str]] = []
        self._seen: dict[str, tuple[bool, str]] = {}
        self._ends: list[requests.Response] = []

    def __enter__(self) -> KubeRoles:
        for color in Color:
            self.namespace.apply(_worker(color), _cron(color))
        for kind in KINDS.values():
            self._watch(kind)
        return self

    def __exit__(self, *_: object) -> None:
        for answer in self._ends:
            answer.close()

    def runs(self, role: str) -> set[Color]:
        """Tell on which colors a role really runs."""
        if role == "worker":
            return {color for color in Color if self.namespace.list("Pod", f"app=shop-worker-{color}")}
        jobs = {color: self.namespace.get("CronJob", f"shop-cron-{color}") for color in Color}
        return {color for color, job in jobs.items() if not job["spec"]["suspend"]}

    def moves(self) -> list[str]:
        """Return what was really done with roles, in its order."""
        wait_until(self._caught_up, 10, "the watch of the roles")
        return [text for _, text in sorted(self._moves)]

    def stick(self, role: str, color: Color, *, sticks: bool = True) -> None:
        """Let a worker's pods not end any more."""
        assert role == "worker"
        for pod in self.namespace.list("Pod", f"app=shop-worker-{color}"):
            name = pod["metadata"]["name"]
            if sticks:
                annotations = {kube_pods.ENDS_AFTER: "1h"}
                self.namespace.patch("Pod", name, {"metadata": {"annotations": annotations}})
            else:
                self.namespace.kubectl("delete", "pod", name, "--grace-period=0", "--force")

    def _watch(self, kind: str) -> None:
        plane, path = self.namespace.plane, self.namespace.path(kind)
        found = plane.ask("GET", path)
        for item in found["items"]:
            self._see(item)
        query = {"watch": "true", "resourceVersion": found["metadata"]["resourceVersion"]}
        answer = plane.session.get(f"{plane.url}/{path}", params=query, verify=str(plane.ca), stream=True, timeout=600)
        self._ends.append(answer)
        threading.Thread(target=self._follow, args=(answer,), daemon=True).start()

    def _follow(self, answer: requests.Response) -> None:
        try:
            for line in answer.iter_lines():
                self._see(json.loads(line)["object"])
        except (requests.RequestException, AttributeError, ValueError):
            return  # closed

    def _see(self, item: dict[str, Any]) -> None:
        name, version = item["metadata"]["name"], item["metadata"]["resourceVersion"]
        _, role, color = name.split("-") if name.count("-") == 2 else ("", "", "")
        if role not in KINDS:
            return
        runs = bool(item["spec"].get("replicas")) if role == "worker" else not item["spec"]["suspend"]
        before = self._seen.get(name)
        if before and before[0] != runs:
            text = f"{'start' if runs else 'stop'} {role} on {color} {VERSIONS[Color(color)]}"
            self._moves.append((int(version), text))
        self._seen[name] = runs, version

    def _caught_up(self) -> bool:
        now = [item for kind in KINDS.values() for item in self.namespace.list(kind)]
        mine = [item["metadata"] for item in now if item["metadata"]["name"] in self._seen]
        return all(self._seen[one["name"]][1] == one["resourceVersion"] for one in mine)


def _worker(color: Color) -> dict[str, Any]:
    found = deployment(f"shop-worker-{color}", 0, color=color)
    found["spec"]["template"]["metadata"]["labels"][VERSION_LABEL] = VERSIONS[color]
    return found


def _cron(color: Color) -> dict[str, Any]:
    pod = {"restartPolicy": "Never", "containers": [{"name": "app", "image": "shop:1"}]}
    template = {"metadata": {"labels": {VERSION_LABEL: VERSIONS[color]}}, "spec": pod}
    spec = {"schedule": "0 3 * * *", "suspend": True, "jobTemplate": {"spec": {"template": template}}}
    return {"kind": "CronJob", "metadata": {"name": f"shop-cron-{color}"}, "spec": spec}
