"""One namespace of a control plane: its objects, its pods and who may do what in it."""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jwt
import yaml

from demo.kubernetes import pods
from demo.processes import wait_until

if TYPE_CHECKING:
    from demo.kubernetes.plane import ControlPlane

APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"
_VERSIONS = {
    "Deployment": "apps/v1",
    "ReplicaSet": "apps/v1",
    "CronJob": "batch/v1",
    "Job": "batch/v1",
    "EndpointSlice": "discovery.k8s.io/v1",
    "PodDisruptionBudget": "policy/v1",
    "HorizontalPodAutoscaler": "autoscaling/v2",
    "Lease": "coordination.k8s.io/v1",
    "Role": "rbac.authorization.k8s.io/v1",
    "RoleBinding": "rbac.authorization.k8s.io/v1",
    "HTTPRoute": "gateway.networking.k8s.io/v1",
    "GRPCRoute": "gateway.networking.k8s.io/v1",
    "Gateway": "gateway.networking.k8s.io/v1",
    "VirtualService": "networking.istio.io/v1",
    "DestinationRule": "networking.istio.io/v1",
}
"""By kind; ``v1`` for all others."""
Rule = tuple[str, str, str]
"""API group, resource and verbs with commas between: ``("", "services", "get,patch")``."""


class Namespace:
    """Objects are plain dictionaries; a kind is named as in a manifest, its ``apiVersion`` need not be said."""

    def __init__(self, plane: ControlPlane, name: str) -> None:
        self.plane, self.name = plane, name

    def path(self, kind: str, name: str = "", part: str = "", version: str = "") -> str:
        """Return where an object, or all of its kind, is; ``version`` is its API's where that is not the usual one."""
        version = version or _VERSIONS.get(kind, "v1")
        place = [f"api/{version}" if version == "v1" else f"apis/{version}", "namespaces", self.name, _plural(kind)]
        return "/".join([*place, *filter(None, (name, part))])

    def apply(self, *objects: Mapping[str, Any]) -> None:
        """Make or change objects as ``kubectl apply --server-side`` does, as field manager ``rig``."""
        for each in objects:
            kind, name = each["kind"], each["metadata"]["name"]
            version = each.get("apiVersion", _VERSIONS.get(kind, "v1"))
            told, path = {"apiVersion": version, **each}, self.path(kind, name, version=version)
            self.plane.ask("PATCH", path, yaml.safe_dump(told), APPLY, fieldManager="rig", force="true")

    def get(self, kind: str, name: str) -> dict[str, Any]:
        """Return one object."""
        return self.plane.ask("GET", self.path(kind, name))

    def list(self, kind: str, selector: str = "") -> list[dict[str, Any]]:
        """Return all objects of a kind; ``selector`` as ``app=shop,color=blue``."""
        return self.plane.ask("GET", self.path(kind), labelSelector=selector)["items"]

    def patch(self, kind: str, name: str, change: Mapping[str, Any]) -> dict[str, Any]:
        """Change an object behind everybody's back (merge patch)."""
        return self.plane.ask("PATCH", self.path(kind, name), change, MERGE)

    def delete(self, kind: str, name: str) -> None:
        """Delete an object and what it owns."""
        self.plane.ask("DELETE", self.path(kind, name), {"propagationPolicy": "Background"})

    def kubectl(self, *words: str, told: str | None = None) -> str:
        """Run kubectl as the administrator in this namespace."""
        return self.plane.kubectl(f"--namespace={self.name}", *words, told=told)

    def turn(self, state: str, selector: str = "", count: int = 0) -> list[str]:
        """
        Let pods that run be in a state of ``pods.STATES`` from now on, wait until they show it, and return their names.

        :param count: how many of those that match; all by default
        """
        names = [pod["metadata"]["name"] for pod in self.list("Pod", selector) if _runs(pod)][: count or None]
        for name in names:
            self.patch("Pod", name, {"metadata": {"annotations": {pods.STATE: state}}})
        wait_until(lambda: self._show(state, names), 20, f"{names} to be {state}")
        return names

    def ready(self, selector: str = "") -> int:
        """Return how many pods are ready."""
        return sum(pods.shown(pod) == "ready" for pod in self.list("Pod", selector) if _runs(pod))

    def wait_ready(self, deployment: str, count: int, timeout_s: float = 60) -> None:
        """Wait until so many pods of a Deployment are ready, and its status says so."""

        def told() -> bool:
            found = self.get("Deployment", deployment)
            status = found.get("status", {})
            seen = status.get("observedGeneration") == found["metadata"]["generation"]
            return seen and status.get("readyReplicas", 0) == status.get("replicas", 0) == count

        wait_until(told, timeout_s, f"{count} ready pods of {deployment}")

    def endpoints(self, service: str) -> list[str]:
        """Return the addresses that a Service sends requests to."""
        slices = self.list("EndpointSlice", f"kubernetes.io/service-name={service}")
        found = [end for each in slices for end in each.get("endpoints") or [] if end["conditions"].get("ready")]
        return sorted(address for end in found for address in end["addresses"])

    def account(self, name: str, *rules: Rule) -> Account:
        """Make a service account that may do this in this namespace, and nothing else."""
        self.apply({"kind": "ServiceAccount", "metadata": {"name": name}})
        told = [{"apiGroups": [group], "resources": [res], "verbs": verbs.split(",")} for group, res, verbs in rules]
        subject = {"kind": "ServiceAccount", "name": name, "namespace": self.name}
        role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name}
        self.apply({"kind": "Role", "metadata": {"name": name}, "rules": told})
        self.apply({"kind": "RoleBinding", "metadata": {"name": name}, "roleRef": role, "subjects": [subject]})
        return Account(self, name)

    def is_usable(self) -> bool:
        """Whether pods can be made in it."""
        return any(each["metadata"]["name"] == "default" for each in self.list("ServiceAccount"))

    def _show(self, state: str, names: Sequence[str]) -> bool:
        found = {pod["metadata"]["name"]: pod for pod in self.list("Pod")}
        return all(name in found and pods.shown(found[name]) == state for name in names)


class Account:
    """A service account: what a release's connection holds."""

    def __init__(self, namespace: Namespace, name: str) -> None:
        self.namespace, self.name = namespace, name

    def token(self, *, lived_s: int = 0) -> str:
        """
        Return a token of the API server's; it is good for a day.

        :param lived_s: signed anew with the API server's own key so that it ended so many seconds ago, when above 0
        """
        asked = {"kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1", "spec": {"expirationSeconds": 86400}}
        path = self.namespace.path("ServiceAccount", self.name, "token")
        token: str = self.namespace.plane.ask("POST", path, asked)["status"]["token"]
        if not lived_s:
            return token
        claims = json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))
        ended = int(time.time()) - lived_s
        claims |= {"exp": ended, "iat": ended - 3600, "nbf": ended - 3600}
        key = self.namespace.plane.signing_key.read_text()
        return jwt.encode(claims, key, "RS256", headers={"kid": jwt.get_unverified_header(token)["kid"]})

    def config(self, *, port: int | None = None, expired: bool = False) -> dict[str, Any]:
        """
        Return its kubeconfig.

        :param port: of a ``wire`` instead of the API server's own
        """
        token = self.token(lived_s=60 if expired else 0)
        return self.namespace.plane.config(token, port=port, namespace=self.namespace.name)

    def kubeconfig(self, **words: Any) -> Path:
        """Write its kubeconfig to a file that only its owner may read, and return that."""
        path = self.namespace.plane.folder / f"{self.namespace.name}-{self.name}.kubeconfig"
        path.touch(0o600)
        path.write_text(yaml.safe_dump(self.config(**words)))
        return path


def deployment(name: str, replicas: int = 2, *, state: str = "", **labels: str) -> dict[str, Any]:
    """
    Return a Deployment of one container.

    :param state: of its pods, a name of ``pods.STATES``
    :param labels: of its pods, beside ``app``: its name
    """
    found = {"app": name, **labels}
    annotations = {pods.STATE: state} if state else {}
    container = {"name": "app", "image": "shop:1", "ports": [{"containerPort": 8080}]}
    template = {"metadata": {"labels": found, "annotations": annotations}, "spec": {"containers": [container]}}
    spec = {"replicas": replicas, "selector": {"matchLabels": found}, "template": template}
    return {"kind": "Deployment", "metadata": {"name": name, "labels": found}, "spec": spec}


def service(name: str, port: int = 80, **selector: str) -> dict[str, Any]:
    """Return a Service before pods with these labels."""
    spec = {"selector": selector, "ports": [{"name": "http", "port": port, "targetPort": 8080}]}
    return {"kind": "Service", "metadata": {"name": name}, "spec": spec}


def _runs(pod: Mapping[str, Any]) -> bool:
    return "deletionTimestamp" not in pod["metadata"] and pod["status"].get("phase") not in ("Failed", "Succeeded")


def _plural(kind: str) -> str:
    word = kind.lower()
    return (
        re.sub("y$", "ies", word) if re.search("[^ae]y$", word) else f"{word}es" if word.endswith("s") else f"{word}s"
    )
