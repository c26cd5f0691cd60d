"""What a deploy says of the objects that run pods: their template, marked with release and version, and their size."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from copy import deepcopy
from typing import Any

from bluegreen.clusters.annotations import annotation
from bluegreen.clusters.objects import DEPLOYMENTS, Json, Kind
from bluegreen.core.errors import DeployError
from bluegreen.deployers.kube_marks import CONFIG, FORMER, RELEASE, SIZE, VERSION_LABEL

TOO_LONG = 250_000
"""Bytes of all annotations with a former spec among them: the API server takes 262144, and our own marks come to it."""


def template_of(kind: Kind, spec: Json) -> Json:
    """Return the pod template in the spec of a Deployment or a CronJob; made where it is not there yet."""
    if kind is not DEPLOYMENTS:
        spec = dict_in(dict_in(spec, "jobTemplate"), "spec")
    return dict_in(spec, "template")


def dict_in(parent: Json, key: str) -> Json:
    """Return what stands under a key; an empty one where there is none."""
    if not parent.get(key):
        parent[key] = {}
    found: Json = parent[key]
    return found


def marked(kind: Kind, body: Json, version: str, release: str, config: str = "") -> Json:
    """Return a body whose pods say which version and release they are of."""
    whole = deepcopy(body)
    metadata = dict_in(template_of(kind, dict_in(whole, "spec")), "metadata")
    dict_in(metadata, "labels")[VERSION_LABEL] = version
    notes = dict_in(metadata, "annotations")
    notes[RELEASE] = release
    if config:
        notes[CONFIG] = config
    return whole


def with_image(kind: Kind, container: str, image: str, env: Mapping[str, str]) -> Json:
    """Return a body that says nothing but a container's image and environment."""
    one: Json = {"name": container, "image": image}
    if env:
        one["env"] = [{"name": name, "value": value} for name, value in env.items()]
    body: Json = {"metadata": {}, "spec": {}}
    template_of(kind, body["spec"])["spec"] = {"containers": [one]}
    return body


def container_of(kind: Kind, found: Json, wanted: str | None, service: str, part: str) -> str:
    """
    Return the container whose image is set.

    :param wanted: its name in the service file, None for the only one
    :raises DeployError: it cannot be told
    """
    names = [one["name"] for one in template_of(kind, deepcopy(found["spec"]))["spec"]["containers"]]
    if wanted in names:
        return str(wanted)
    if wanted is None and len(names) == 1:
        return str(names[0])
    raise DeployError(
        f"{kind.name} {found['metadata']['name']} has the containers {', '.join(names)}, not {wanted or 'one only'}",
        service=service,
        part=part,
        next_step=f"nothing was touched; give deploy.container, one of {', '.join(names)}",
    )


def kept_size(kind: Kind, found: Json | None, body: Json) -> Json:
    """
    Return a body that leaves it as it is whether a role's object runs; a new one does not.

    It is said all the same: what we once said and say no more, the API server sets to its default, which runs.
    """
    whole = deepcopy(body)
    key, still = ("replicas", 0) if kind is DEPLOYMENTS else ("suspend", True)
    dict_in(whole, "spec")[key] = still if found is None else found["spec"].get(key, still)
    return whole


def config_hash(maps: Iterable[Json]) -> str:
    """Return a short hash of what ConfigMaps hold, whatever their order; empty for none."""
    held = sorted(
        json.dumps([one["metadata"]["name"], one.get("data") or {}, one.get("binaryData") or {}], sort_keys=True)
        for one in maps
    )
    return hashlib.sha256("\n".join(held).encode()).hexdigest()[:16] if held else ""


def former_of(found: Json) -> str:
    """Return what a Deployment is now, as its annotation has it while a deploy is not done."""
    spec = {key: value for key, value in found["spec"].items() if key != "replicas"}
    labels = found["metadata"].get("labels") or {}
    there = found["metadata"].get("annotations") or {}
    notes = {key: value for key, value in there.items() if not _of_controllers(key)}
    former = {"replicas": found["spec"].get("replicas", 1), "spec": spec, "labels": labels, "annotations": notes}
    text = json.dumps(former, separators=(",", ":"))
    whole = {**there, FORMER: text}
    return text if sum(len(f"{key}{value}".encode()) for key, value in whole.items()) < TOO_LONG else ""


def _of_controllers(key: str) -> bool:
    return "kubernetes.io/" in key or key.startswith("bluegreen.dev/")


def given_back(found: Mapping[str, Any]) -> Json | None:
    """
    Return the body of what a Deployment was before a deploy that is not done; None where there was none.

    :raises ValueError: somebody wrote over what was noted of it
    """
    text = annotation(found, FORMER)
    if not text or text == NOTHING:
        return None
    try:
        former = json.loads(text)
        metadata = {key: dict(former[key]) for key in ("labels", "annotations")}
        return {"metadata": metadata, "spec": {**former["spec"], "replicas": int(former["replicas"])}}
    except (TypeError, KeyError) as error:
        raise ValueError(f"{FORMER} is none of ours") from error


NOTHING = "{}"
"""What ``FORMER`` says of a Deployment that a deploy has made."""


def size_before(found: Json | None) -> int:
    """Return how many pods a Deployment had before it was scaled to 0; 0 where nobody noted it."""
    text = annotation(found, SIZE) if found else ""
    return int(text) if text.isdigit() else 0
