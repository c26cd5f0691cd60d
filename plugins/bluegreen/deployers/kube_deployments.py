"""Deployments of Kubernetes as a deployer: manifests that are applied, or an image that is set, on the idle color only."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import cast

from bluegreen.catalog.kube_deploys import KubeDeploy
from bluegreen.clusters.annotations import annotated, annotation
from bluegreen.clusters.objects import CONFIG_MAPS, DEPLOYMENTS, Json, Kind
from bluegreen.core.colors import Color
from bluegreen.core.errors import DeployError, DeployFenced
from bluegreen.core.ports import Deployed
from bluegreen.deployers import kube_bodies as bodies
from bluegreen.deployers.kube_colors import KubeColorsDeployer
from bluegreen.deployers.kube_manifests import read_manifests
from bluegreen.deployers.kube_marks import FORMER, RELEASE, VERSION_LABEL, Claim, record_of
from bluegreen.deployers.kube_rollout import rollout
from bluegreen.deployers.kube_words import filled, words_for

Wanted = list[tuple[Kind, str, Callable[[Json | None], Json]]]
"""Kind, name and, from the object that is there, what we say of it; the color's Deployment last."""


class KubeDeployer(KubeColorsDeployer):
    """Deploys to Deployments, with ``deploy.type: kubernetes``; see ``core.ports.Deployer``."""

    @property
    def _plan(self) -> KubeDeploy:
        return cast("KubeDeploy", self._service.deploy)

    def deploy(self, color: Color, version: str, epoch: int, release: str) -> Deployed:
        """
        Bring the version onto the color's Deployment and wait until its pods are ready and its targets say so.

        What this very release has brought up already is left as it is. When it does not come up the Deployment is
        given back what it was before.

        :raises DeployFenced: a newer claim has the color; nothing is given back
        :raises DeployError: refused before anything was touched, or the version did not come up
        :raises SecretMissing: a connection of the service file is not there
        """
        words, claim = (
            words_for(self._service.service, color, version),
            Claim(self._service.service, color, epoch, release),
        )
        found = self._found(color)
        wanted = self._wanted(color, words, claim, found)
        for one in [found, *(self._objects.find(*where, color) for where in self._role_objects(color))]:
            self._refuse_odd(color, one)
        if found and self._entered(color, version, claim):
            return self.status(color)
        with self._given_back(color, claim):
            for kind, name, body_of in wanted:
                written = self._objects.apply(kind, name, claim, body_of)
                self._log(f"{self._service.service}: {color}: {kind.name} {name} is written")
            up = self._come_up(color, version, claim, written)
        self._finish(color, version, claim)
        return up

    # Before anything is touched

    def _wanted(self, color: Color, words: Mapping[str, str], claim: Claim, found: Json | None) -> Wanted:
        least = self._least(color, found)
        made = self._from_manifests if self._plan.manifests else self._from_image
        return made(color, words, claim, least)

    def _from_manifests(self, color: Color, words: Mapping[str, str], claim: Claim, least: int) -> Wanted:
        name = self._plan.deployments[color]
        read = read_manifests(self._plan.manifests, words, color, self._plan.cluster.namespace, name)
        config = bodies.config_hash(one.body for one in read if one.kind is CONFIG_MAPS)
        roles = self._role_objects(color)
        wanted: Wanted = []
        for one in read:
            body = one.body
            if (one.kind, one.name) == (DEPLOYMENTS, name):
                body = bodies.marked(one.kind, body, words["VERSION"], claim.release, config)
                wanted.append((one.kind, one.name, self._sized(body, least)))
            elif (one.kind, one.name) in roles:
                body = bodies.marked(one.kind, body, words["VERSION"], claim.release, config)
                wanted.append((one.kind, one.name, _as_it_runs(one.kind, body)))
            else:
                wanted.append((one.kind, one.name, _same(body)))
        return wanted

    def _from_image(self, color: Color, words: Mapping[str, str], claim: Claim, least: int) -> Wanted:
        maps = [self._there(CONFIG_MAPS, name, color) for name in filled(self._plan.config, words)]
        config, wanted = bodies.config_hash(maps), Wanted()
        for kind, name in self._role_objects(color):
            body = self._image_of(kind, self._there(kind, name, color), words, claim, config)
            wanted.append((kind, name, _as_it_runs(kind, body)))
        name = self._plan.deployments[color]
        body = self._image_of(DEPLOYMENTS, self._there(DEPLOYMENTS, name, color), words, claim, config)
        return [*wanted, (DEPLOYMENTS, name, self._sized(body, least))]

    def _role_objects(self, color: Color) -> list[tuple[Kind, str]]:
        return [self._roles.object_of(role, color) for role in self._plan.roles]

    def _image_of(self, kind: Kind, found: Json, words: Mapping[str, str], claim: Claim, config: str) -> Json:
        container = bodies.container_of(kind, found, self._plan.container, self._service.service, claim.part)
        image, env = filled(self._plan.image, words), filled(self._plan.env, words)
        body = bodies.with_image(kind, container, image, env)
        return bodies.marked(kind, body, words["VERSION"], claim.release, config)

    def _there(self, kind: Kind, name: str, color: Color) -> Json:
        found = self._objects.find(kind, name, color)
        if found is None:
            fact, mend = f"there is no {kind.name} {name}", "make it once: an image is set on what is there"
            raise self._refused(color, fact, mend)
        return found

    def _sized(self, body: Json, least: int) -> Callable[[Json | None], Json]:
        def sized(found: Json | None) -> Json:
            now = found["spec"].get("replicas", 1) if found else 0
            asked = body["spec"].get("replicas", 0)
            notes = {FORMER: annotation(found, FORMER) if found else bodies.NOTHING}
            metadata = body["metadata"] | {
                "annotations": (body["metadata"].get("annotations") or {})
                | {key: it for key, it in notes.items() if it}
            }
            return body | {"metadata": metadata, "spec": body["spec"] | {"replicas": max(now, asked, least)}}

        return sized

    def _refuse_odd(self, color: Color, found: Json | None) -> None:
        """Refuse what a deploy could not end well with."""
        if found is None or "selector" not in found["spec"]:  # a CronJob has none
            return
        name = found["metadata"]["name"]
        if found["metadata"].get("deletionTimestamp"):
            raise self._refused(color, f"Deployment {name} is being deleted", "see who does, and wait for its end")
        if found["spec"].get("paused"):
            mend = f"kubectl -n {self._plan.cluster.namespace} rollout resume deployment/{name}"
            raise self._refused(color, f"Deployment {name} is paused: nothing that is written to it would run", mend)
        if VERSION_LABEL in (found["spec"]["selector"].get("matchLabels") or {}):
            fact = f"Deployment {name} chooses its pods by {VERSION_LABEL}, which a new version changes"
            raise self._refused(color, fact, "make it anew with a selector of labels that stay")

    # The steps

    def _entered(self, color: Color, version: str, claim: Claim) -> bool:
        """Claim the Deployment and note what it is; tell whether this very release has it up already."""

        def note(found: Json, before: object) -> list[Json]:
            same = before is not None and claim.record(before).done == version  # type: ignore[arg-type]
            # What an unfinished deploy noted is the last that was good.
            return [] if same or annotation(found, FORMER) else annotated(found, {FORMER: bodies.former_of(found)})

        found = self._objects.change(DEPLOYMENTS, self._plan.deployments[color], claim, note)
        record = record_of(found, self._service.service, color)
        if (
            record is None
            or record.done != version
            or not rollout(found).done
            or not self._up(self._asked(color), version)
        ):
            return False
        self._log(f"{self._service.service}: {color}: {version} is up already, by this very release")
        return True

    def _finish(self, color: Color, version: str, claim: Claim) -> None:
        name = self._plan.deployments[color]
        self._objects.change(DEPLOYMENTS, name, claim, lambda found, _: annotated(found, {FORMER: None}), done=version)

    @contextmanager
    def _given_back(self, color: Color, claim: Claim) -> Iterator[None]:
        """Give the Deployment back what it was when a deploy fails, and say so; not to a newer claim's cost."""
        try:
            yield
        except DeployFenced:
            raise
        except DeployError as error:
            try:
                said = self._give_back(color, claim)
            except DeployError as more:
                said = f"it was not given back what it was before: {more.fact}"
            self._log(f"{self._service.service}: {color}: {said}")
            raise DeployError(
                f"{error.fact.rstrip()}\n{said}", service=error.service, part=error.part, next_step=error.next_step
            ) from error

    def _give_back(self, color: Color, claim: Claim) -> str:
        name = self._plan.deployments[color]
        found = self._found(color)
        if found is None:
            return f"there is no Deployment {name}"
        undo = f"kubectl -n {self._plan.cluster.namespace} rollout undo deployment/{name}"
        if not annotation(found, FORMER):
            entered = annotation(found["spec"]["template"], RELEASE) == claim.release
            kept = f"it was too large to be kept: {undo}"
            return f"Deployment {name} has what failed, {kept}" if entered else f"Deployment {name} was not touched"
        try:
            before = bodies.given_back(found)
        except ValueError:
            odd = f"the annotation {FORMER} cannot be read, so nothing can be given back: {undo}, and take it off"
            return f"Deployment {name} has what failed; {odd}"
        if before is None:
            scaled = [{"op": "replace", "path": "/spec/replicas", "value": 0}]
            self._objects.change(DEPLOYMENTS, name, claim, lambda now, _: [*scaled, *annotated(now, {FORMER: None})])
            return f"Deployment {name}, which was not there before, is scaled to 0"
        self._objects.apply(DEPLOYMENTS, name, claim, lambda _: before)
        self._objects.change(DEPLOYMENTS, name, claim, lambda now, _: annotated(now, {FORMER: None}))
        return f"Deployment {name} is given back what it was before"


def _same(body: Json) -> Callable[[Json | None], Json]:
    return lambda _: body


def _as_it_runs(kind: Kind, body: Json) -> Callable[[Json | None], Json]:
    return lambda found: bodies.kept_size(kind, found, body)
