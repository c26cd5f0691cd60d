"""Manifests of a color: read, filled with the release's words, and refused where they would touch the other color."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bluegreen.clusters.objects import (
    AUTOSCALERS,
    CONFIG_MAPS,
    CRON_JOBS,
    DEPLOYMENTS,
    DISRUPTION_BUDGETS,
    SERVICES,
    Json,
    Kind,
)
from bluegreen.core.colors import Color
from bluegreen.core.errors import DeployError
from bluegreen.deployers.kube_objects import body_of
from bluegreen.deployers.kube_shapes import Document, Odd, documents
from bluegreen.deployers.kube_words import filled

SECRETS = Kind("", "v1", "secrets", "Secret")
SERVICE_ACCOUNTS = Kind("", "v1", "serviceaccounts", "ServiceAccount")
INGRESSES = Kind("networking.k8s.io", "v1", "ingresses", "Ingress")
NETWORK_POLICIES = Kind("networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy")
KINDS = {
    (kind.api_version, kind.name): kind
    for kind in (
        AUTOSCALERS, CONFIG_MAPS, CRON_JOBS, DEPLOYMENTS, DISRUPTION_BUDGETS, INGRESSES, NETWORK_POLICIES, SECRETS,
        SERVICE_ACCOUNTS, SERVICES,
    )
}  # fmt: skip
"""What belongs to one color. A Namespace, a Role or a custom resource is made by people, not by a release."""


@dataclass(frozen=True)
class Manifest:
    """
    One object of a color.

    :param kind: its kind
    :param name: its name
    :param body: what is said of it
    """

    kind: Kind
    name: str
    body: Json

    def __str__(self) -> str:
        return f"{self.kind.name} {self.name}"


@dataclass(frozen=True)
class _Reader:
    service: str
    color: Color
    namespace: str

    def files(self, paths: Sequence[Path], words: Mapping[str, str]) -> list[Manifest]:
        """Read all files, and refuse an object that stands in them twice, or that both colors would have."""
        try:
            found = [one for path in paths for one in documents(path)]
        except Odd as odd:
            raise self.refused(odd.fact, odd.mend) from None
        mine = self._manifests(found, words)
        theirs = self._manifests(found, {**words, "COLOR": self.color.other})
        for key, (place, one) in mine.items():
            if key in theirs:
                fact = f"{place}: {one} would be the other color's, too: a deploy must not touch what is live"
                raise self.refused(fact, "let its name have $COLOR in it, or apply it yourself")
        return [one for _, one in mine.values()]

    def _manifests(
        self, found: Sequence[Document], words: Mapping[str, str]
    ) -> dict[tuple[Kind, str], tuple[str, Manifest]]:
        """Return where each object stands and what it is, by kind and name."""
        seen: dict[tuple[Kind, str], tuple[str, Manifest]] = {}
        for one in found:
            made = self._manifest(one.place, filled(one.body, words))
            before, _ = seen.setdefault((made.kind, made.name), (one.place, made))
            if before != one.place:
                raise self.refused(f"{made} stands twice: {before}, and {one.place}", "take one of them out")
        return seen

    def _manifest(self, place: str, one: Json) -> Manifest:
        kind = KINDS.get((one["apiVersion"], one["kind"]))
        name, namespace = one["metadata"]["name"], one["metadata"].get("namespace") or self.namespace
        if kind is None:
            fact = f"{place}: {one['apiVersion']} {one['kind']} {name} is nothing that a release applies"
            raise self.refused(fact, _allowed(one["kind"]))
        if namespace != self.namespace:
            fact = f"{place}: {kind.name} {name} is in namespace {namespace}, the service in {self.namespace}"
            raise self.refused(fact, "take its namespace out")
        return Manifest(kind, name, body_of(one))

    def refused(self, fact: str, mend: str) -> DeployError:
        """Return the error that ends a deploy before anything is touched."""
        step = f"nothing was touched; {mend}"
        return DeployError(fact, service=self.service, part=self.color, next_step=step)


def _allowed(kind: str) -> str:
    """Say what a release takes instead of an object that it does not."""
    versions = [version for version, name in KINDS if name == kind]
    if versions:
        return f"write apiVersion: {versions[0]}, and what that has"
    return f"apply it yourself; a release takes {', '.join(sorted(name for _, name in KINDS))}"


def read_manifests(  # what, and whose it is to be
    paths: Sequence[Path], words: Mapping[str, str], color: Color, namespace: str, deployment: str
) -> list[Manifest]:
    """
    Return the objects of a color: its Deployment last, as its pods need the others.

    :param words: COLOR, SERVICE and VERSION
    :param namespace: where all of them are
    :param deployment: the color's Deployment, which must be among them
    :raises DeployError: a file is none that a release may apply; nothing was touched
    """
    reader = _Reader(words["SERVICE"], color, namespace)
    found = reader.files(paths, words)
    main = [one for one in found if (one.kind, one.name) == (DEPLOYMENTS, deployment)]
    if not main:
        fact = f"{', '.join(str(path) for path in paths)}: there is no Deployment {deployment} in them"
        raise reader.refused(fact, "the Deployment of deploy.deployments must stand in them")
    return [one for one in found if one is not main[0]] + main
