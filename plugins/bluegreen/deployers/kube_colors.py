"""
A color as a Deployment: what every deployer to Kubernetes knows of it, however a version gets onto it.

Sizes: the new color has at least the pods of the live one before the switch; an autoscaler's own number is never
lowered. ``retire`` scales to 0 where no disruption budget of both colors forbids it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import cast

from bluegreen.catalog.kube_deploys import HelmDeploy, KubeDeploy
from bluegreen.checks.health import TargetHealth, summed
from bluegreen.clusters.annotations import annotation
from bluegreen.clusters.objects import AUTOSCALERS, DEPLOYMENTS, PODS, Cluster, Json
from bluegreen.clusters.status import condition, is_ready, scaled_deployment
from bluegreen.clusters.waits import Seen
from bluegreen.core.colors import Color
from bluegreen.core.deadlines import Deadline
from bluegreen.core.errors import BlueGreenError, DeployError, SecretMissing
from bluegreen.core.masks import without
from bluegreen.core.ports import Deployed, Ran
from bluegreen.deployers.child import spellings
from bluegreen.deployers.health_wait import LONGEST_DIAGNOSIS, TargetsDeployer
from bluegreen.deployers.kube_bodies import size_before
from bluegreen.deployers.kube_budgets import in_the_way
from bluegreen.deployers.kube_diagnosis import said
from bluegreen.deployers.kube_facts import gathered
from bluegreen.deployers.kube_inside import Inside
from bluegreen.deployers.kube_marks import RELEASE, VERSION_LABEL, Claim
from bluegreen.deployers.kube_objects import Objects
from bluegreen.deployers.kube_roles import Roles, stopping
from bluegreen.deployers.kube_rollout import Rollout, hopeless, rollout, selector
from bluegreen.deployers.kube_words import words_for

LOOK_EVERY = timedelta(seconds=10)
"""How long a rollout is watched before its pods are looked at, and it is said what it waits for."""
FOLLOWED = timedelta(seconds=2)
"""
How long targets are asked on end once other pods made way: nodes go on sending to those for a while.

Twice of kube-proxy's ``minSyncPeriod``, by default 1 s; until then a Service was seen to give answers of the version before,
or a broken connection where its pods had ended.
"""
ASK_EVERY = 0.1
"""Seconds between these questions."""


class KubeColorsDeployer(TargetsDeployer):
    """What deployers to Kubernetes share; see ``core.ports.Deployer`` and ``RunsRoles``."""

    @property
    def _plan(self) -> KubeDeploy | HelmDeploy:
        return cast("KubeDeploy | HelmDeploy", self._service.deploy)

    @cached_property
    def _objects(self) -> Objects:
        # Not before it is needed: on a triggerer's loop no login can be waited for.
        cluster = Cluster.of(self._plan.cluster, self._secrets)
        return Objects(cluster, self._service.service, self._plan.timeout)

    @property
    def calls(self) -> Mapping[str, int]:
        """How often each verb was asked of the API server; see ``core.ports.TellsCalls``."""
        return self._objects.cluster.calls if "_objects" in vars(self) else {}

    def status(self, color: Color) -> Deployed:
        """
        Return the ready pods of those that are wanted, and the version that the targets report, or the pods bear.

        :raises DeployError: the API server does not tell
        """
        found = self._found(color)
        if found is None:
            return Deployed(None, 0, 0)
        up = [pod for pod in self._pods(color, found) if is_ready(pod)]
        wanted = found["spec"].get("replicas", 1) or size_before(found)
        return Deployed(self._version(color, up) if up else None, len(up), wanted)

    def diagnose(self, color: Color) -> str:
        """Return targets, pods, last logs, events and what resources lack, in short lines; raises nothing."""
        lines: list[str] = []
        try:
            hide, unknown = self._known()
            lines += [without(str(target), spellings(hide)) for target in self._asked(color)]
            with self._objects.told(color):
                facts = gathered(self._objects.cluster, self._plan.deployments[color])
            if unknown:
                facts.logs = {}
                facts.missing["logs"] = unknown
            lines += said(facts, hide)
        except BlueGreenError as error:
            lines.append(f"diagnose: {error.fact}; {error.next_step}")
        except Exception as error:  # noqa: BLE001 - what is the matter must not be hidden by a look at it
            lines.append(f"diagnose: unexpected {type(error).__name__}: {error}")
        return "\n".join(lines[:LONGEST_DIAGNOSIS])

    def _known(self) -> tuple[tuple[str, ...], str]:
        """Return what no line may show, and why that is not known: whoever may not have a password may see no log."""
        try:
            return self._hide, ""
        except SecretMissing as missing:
            return (), missing.fact

    def retire(self, color: Color, epoch: int) -> None:
        """
        Scale a color to 0 pods, where the service file does not leave it as it is.

        :raises DeployFenced: a newer claim has the color
        :raises DeployError: it cannot be scaled, or a disruption budget that the live color shares forbids it
        """
        if self._plan.retire == "leave":
            self._log(f"{self._service.service}: {color}: retire is leave: all goes on running")
            return
        found = self._found(color)
        if found is None:
            self._log(f"{self._service.service}: {color}: there is no {self._plan.deployments[color]}")
            return
        self._spare_budgets(color, found)
        claim, name = Claim(self._service.service, color, epoch, ""), self._plan.deployments[color]
        self._objects.change(DEPLOYMENTS, name, claim, lambda now, _: stopping(DEPLOYMENTS, now))
        self._wait_for_none(color, name)

    def run_roles(self, color: Color, epoch: int, release: str, versions: Mapping[Color, str]) -> None:
        """
        Let every role run on a color and not on the other; see ``core.ports.RunsRoles``.

        :raises DeployFenced: a newer write has moved a role
        :raises DeployError: a role did not stop or start
        """
        if self._plan.roles:
            self._roles.move(color, epoch, release, versions)

    def roles(self) -> dict[str, Color | None]:
        """
        Return the color that each role was brought to, by its objects' fences; see ``core.ports.RunsRoles``.

        :raises DeployError: the API server does not tell
        """
        return self._roles.where() if self._plan.roles else {}

    def run_command(
        self, color: Color, argv: Sequence[str], within: timedelta, *, container: str | None = None, each: bool = False
    ) -> list[Ran]:
        """
        Run a command in a ready pod of a color, the newest, or in each; see ``core.ports.RunsInside``.

        :raises DeployError: there is no ready pod, or it cannot be run
        :raises SecretMissing: a password of ``deploy.secrets``, which no line may show, is not there
        """
        found = self._found(color)
        pods = [pod for pod in self._pods(color, found) if is_ready(pod)] if found else []
        if not pods:
            step = "no traffic was moved; see bluegreen diagnose"
            raise DeployError("has no ready pod", service=self._service.service, part=color, next_step=step)
        pods.sort(key=lambda pod: str(pod["metadata"]["creationTimestamp"]), reverse=True)
        names = [str(pod["metadata"]["name"]) for pod in (pods if each else pods[:1])]
        return [self._inside(color).command(name, container, argv, within) for name in names]

    def run_job(self, color: Color, version: str, file: Path, within: timedelta) -> Ran:
        """
        Run a Job to its end; see ``core.ports.RunsInside``.

        :raises DeployError: it cannot be made
        :raises SecretMissing: a password of ``deploy.secrets``, which no line may show, is not there
        """
        return self._inside(color).job(file, words_for(self._service.service, color, version), within)

    def _inside(self, color: Color) -> Inside:
        return Inside(self._objects, self._service.service, color, self._log, self._hide)

    @property
    def _roles(self) -> Roles:
        return Roles(self._objects, self._service.service, self._plan.roles, self._log)

    # The color

    def _found(self, color: Color) -> Json | None:
        return self._objects.find(DEPLOYMENTS, self._plan.deployments[color], color)

    def _pods(self, color: Color, found: Json) -> tuple[Json, ...]:
        return self._objects.all(PODS, color, selector(found))

    def _asked(self, color: Color) -> list[TargetHealth]:
        return self._ask(self._service.colors[color].targets) if self._plan.ask == "targets" else []

    def _version(self, color: Color, up: list[Json]) -> str | None:
        well = [target for target in self._asked(color) if target.ok and target.version]
        return summed(well).version if well else self._noted(color, up)

    def _noted(self, color: Color, up: list[Json]) -> str | None:  # noqa: ARG002 - of what the pods say, no color is asked
        """Return the version that no target told."""
        labels = {(pod["metadata"].get("labels") or {}).get(VERSION_LABEL) for pod in up}
        return labels.pop() if len(labels) == 1 else None

    def _least(self, color: Color, found: Json | None) -> int:
        """Return how many pods a color has at least once it is deployed to."""
        live = self._found(color.other)
        known = [self._plan.replicas or 0, live["spec"].get("replicas", 1) if live else 0, self._autoscaled(color)]
        return max(known) or size_before(found) or 1

    def _autoscaled(self, color: Color) -> int:
        """Return the least number of an autoscaler that scales a color; 0 without one."""
        for one in self._objects.all(AUTOSCALERS, color):
            if scaled_deployment(one) == self._plan.deployments[color]:
                return int(one["spec"].get("minReplicas") or 1)
        return 0

    def _spare_budgets(self, color: Color, found: Json) -> None:
        live = self._found(color.other)
        ready_now = sum(map(is_ready, self._pods(color, found)))
        for name, says in in_the_way(self._objects, color, found, live, ready_now):
            raise DeployError(
                f"PodDisruptionBudget {name} forbids it: {says}",
                service=self._service.service,
                part=color,
                next_step=f"give {color.other} more pods, or each color a budget of its own, or retire: leave",
            )

    def _wait_for_none(self, color: Color, name: str) -> None:
        def none(seen: Seen) -> bool:
            return name not in seen or (rollout(seen[name]).done)

        if not self._objects.wait(DEPLOYMENTS, color, none, Deadline(self._plan.timeout), name=name):
            self._log(f"{self._service.service}: {color}: {name} is scaled to 0, its pods still end")

    # A version coming up

    def _come_up(self, color: Color, version: str, claim: Claim, written: Json) -> Deployed:
        """
        Wait until all pods are of the version and ready, the targets say so, and it is still so then.

        :param written: the Deployment as our write left it
        :raises DeployFenced: a newer claim has the color
        :raises DeployError: it does not come up; with a diagnosis
        """
        deadline, stale = Deadline(self._plan.ready_within), condition(written, "Progressing", "False")
        had_pods = bool((written.get("status") or {}).get("replicas"))
        asked: list[TargetHealth] = []
        for _ in deadline.tries():
            self._roll(color, version, claim, deadline, stale)
            asked = self._steady(color, version, FOLLOWED if had_pods else timedelta(0))
            if self._up(asked, version):
                found = self.status(color)
                if found.ready >= found.total:
                    return replace(found, version=version)  # a target that stutters now has said so before
                self._log(f"{self._service.service}: {color}: {found.ready} of {found.total} pods are ready again")
        raise self._not_up(color, self._late(version), asked)

    def _steady(self, color: Color, version: str, span: timedelta) -> list[TargetHealth]:
        """Return what the targets say at the end of a time, or as soon as they are not up at the version."""
        asked: list[TargetHealth] = []
        for _ in Deadline(span).tries(ASK_EVERY, ASK_EVERY):
            asked = self._asked(color)
            if not self._up(asked, version):
                break
        return asked

    def _roll(self, color: Color, version: str, claim: Claim, deadline: Deadline, stale: Json | None) -> None:
        """Wait until a rollout is done; say now and then what it waits for."""
        name, last = self._plan.deployments[color], list[Rollout]()

        def over(seen: Seen) -> bool:
            if name not in seen:
                raise self._gone(color, name)
            claim.over(seen[name])
            last[:] = [rollout(seen[name], stale)]
            return last[0].done or bool(last[0].stopped)

        while True:
            part = Deadline(min(LOOK_EVERY, timedelta(seconds=deadline.left)))
            held = self._objects.wait(DEPLOYMENTS, color, over, part, name=name)
            if held and last[0].done:
                return
            why = last[0].stopped or self._hopeless(color)
            if why or deadline.left <= 0:
                raise self._not_up(color, f"{why or self._late(version)}: {last[0].says}", self._asked(color))
            self._log(f"{self._service.service}: {color}: {last[0].says}; {deadline.left:.0f} s left")

    def _hopeless(self, color: Color) -> str:
        found = self._found(color)
        if found is None:
            return ""
        # Pods of the version before may still be there, which crashed; what this deploy made bears its mark.
        ours = annotation(found["spec"]["template"], RELEASE)
        pods = [pod for pod in self._pods(color, found) if annotation(pod, RELEASE) == ours]
        return next(filter(None, map(hopeless, pods)), "")

    def _refused(self, color: Color, fact: str, mend: str) -> DeployError:
        step = f"nothing was touched; {mend}"
        return DeployError(fact, service=self._service.service, part=color, next_step=step)

    def _gone(self, color: Color, name: str) -> DeployError:
        return DeployError(
            f"Deployment {name} was deleted while it was deployed",
            service=self._service.service,
            part=color,
            next_step="no traffic was moved; see who deletes it, then start a new release",
        )
