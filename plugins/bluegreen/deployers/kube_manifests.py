"""Manifests of a color: read, filled with the release's words, and refused where they would touch the other color."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

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
        """Read all files, and refuse an object that both colors would have."""
        found = [(path, one) for path in paths for one in self._documents(path)]
        mine = [self._manifest(path, filled(one, words)) for path, one in found]
        theirs = [self._manifest(path, filled(one, {**words, "COLOR": self.color.other})) for path, one in found]
        for (path, _), one in zip(found, mine, strict=True):
            if any((one.kind, one.name) == (other.kind, other.name) for other in theirs):
                fact = f"{path}: {one} would be the other color's, too: a deploy must not touch what is live"
                raise self._refused(fact, "let its name have $COLOR in it, or apply it yourself")
        return mine

    def _documents(self, path: Path) -> Iterator[Json]:
        try:
            documents = list(yaml.safe_load_all(path.read_text(encoding="utf-8")))
        except (OSError, UnicodeDecodeError) as error:
            raise self._refused(f"{path} cannot be read: {error}", "see deploy.manifests") from error
        except yaml.YAMLError as error:
            # Its own text shows lines of the file, which may be a Secret's.
            mark = getattr(error, "problem_mark", None)
            line = f", line {mark.line + 1}" if mark else ""
            raise self._refused(f"{path}{line} is no YAML", "mend the file") from None
        for one in documents:
            if isinstance(one, dict) and one.get("kind") == "List":
                yield from one.get("items") or []
            elif one is not None:
                yield one

    def _manifest(self, path: Path, one: Any) -> Manifest:
        if not isinstance(one, dict) or not isinstance(one.get("metadata"), dict) or "name" not in one["metadata"]:
            raise self._refused(f"{path} holds what is no object with a name", "see deploy.manifests")
        kind = KINDS.get((str(one.get("apiVersion")), str(one.get("kind"))))
        name, namespace = str(one["metadata"]["name"]), one["metadata"].get("namespace", self.namespace)
        if kind is None:
            known = ", ".join(sorted(name for _, name in KINDS))
            fact = f"{path}: {one.get('apiVersion')} {one.get('kind')} {name} is nothing that a release applies"
            raise self._refused(fact, f"apply it yourself; a release takes {known}")
        if namespace != self.namespace:
            fact = f"{path}: {kind.name} {name} is in namespace {namespace}, the service in {self.namespace}"
            raise self._refused(fact, "take its namespace out")
        return Manifest(kind, name, body_of(one))

    def _refused(self, fact: str, mend: str) -> DeployError:
        step = f"nothing was touched; {mend}"
        return DeployError(fact, service=self.service, part=self.color, next_step=step)


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
    if len(main) != 1:
        raise DeployError(
            f"{', '.join(str(path) for path in paths)}: Deployment {deployment} stands {len(main)} times in them",
            service=words["SERVICE"],
            part=color,
            next_step="nothing was touched; the Deployment of deploy.deployments must stand in them once",
        )
    return [one for one in found if one is not main[0]] + main
