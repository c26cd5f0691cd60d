"""
Helm charts as a deployer: a release of Helm's a color, upgraded or installed, taken back by Helm where it fails.

Helm knows no fence, so it is a ConfigMap of its own, ``bluegreen-fence-<service>-<color>``: compared before each call, and
looked at while one runs, which ends when a newer claim is there.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import cast

from bluegreen.catalog.kube_deploys import HelmDeploy
from bluegreen.clusters.objects import CONFIG_MAPS, DEPLOYMENTS, Json
from bluegreen.clusters.trouble import ClusterTrouble
from bluegreen.core.colors import Color
from bluegreen.core.deadlines import Deadline
from bluegreen.core.errors import BlueGreenError, DeployError, DeployFenced, SecretMissing
from bluegreen.core.ports import Deployed
from bluegreen.deployers.child import TAIL
from bluegreen.deployers.health_wait import LONGEST_DIAGNOSIS
from bluegreen.deployers.helm_diff import difference, objects_in
from bluegreen.deployers.helm_program import Helm
from bluegreen.deployers.helm_values import nested, parts
from bluegreen.deployers.kube_colors import KubeColorsDeployer
from bluegreen.deployers.kube_marks import Claim, record_of
from bluegreen.deployers.kube_rollout import rollout
from bluegreen.deployers.kube_words import filled, words_for
from bluegreen.hosts.host_fence import Record

LOOK_EVERY = 2.0
"""Seconds between two looks at the fence while Helm runs."""
DIAGNOSE_EACH = 3
"""Looks from one diagnosis to the next."""
ENDS_WITHIN = timedelta(seconds=10)
"""How long a Helm may take to end once a newer claim has its color, and to go from its failure to its way back."""


@dataclass
class Look:
    """
    What is looked at while Helm runs, now and then.

    :param over: tells whether a newer claim has the color
    :param unready: what keeps it from being up, empty where nothing does
    :param last: what ``unready`` said last
    :param upgraded: Helm was content
    """

    over: Callable[[], bool]
    unready: Callable[[], str]
    last: str = ""
    upgraded: bool = False
    _looks: int = 0
    _next: float = field(default_factory=lambda: time.monotonic() + LOOK_EVERY)

    def gone(self) -> bool:
        """Tell whether Helm must end."""
        if time.monotonic() < self._next:
            return False
        self._looks += 1
        if self._looks % DIAGNOSE_EACH == 0:
            self.last = self.unready() or self.last
        self._next = time.monotonic() + LOOK_EVERY
        return self.over()


class HelmDeployer(KubeColorsDeployer):
    """Deploys charts, with ``deploy.type: helm``; see ``core.ports.Deployer``."""

    @property
    def _plan(self) -> HelmDeploy:
        return cast("HelmDeploy", self._service.deploy)

    def deploy(self, color: Color, version: str, epoch: int, release: str) -> Deployed:
        """
        Upgrade or install the color's Helm release, and wait until its pods are ready and its targets say so.

        What this very release has brought up already is left as it is. What does not come up is taken back: by Helm, or,
        where only the targets say no, by a rollback to the revision before.

        :raises DeployFenced: a newer claim has the color
        :raises DeployError: refused before anything was touched, or the version did not come up
        :raises SecretMissing: a connection of the service file is not there, or has no password
        """
        words, claim = (
            words_for(self._service.service, color, version),
            Claim(self._service.service, color, epoch, release),
        )
        helm, chart, values = self._helm(color), self._chart(words), filled(self._plan.values, words)
        mine = nested({**filled(self._plan.set, words), **self._passwords})
        earlier = self._record(color)

        def checked() -> str:
            after = helm.would_be(chart, values, mine)
            self._refuse_odd(color, after)
            return after

        # Of a release that somebody left half-way Helm tells nothing before that is settled, for which it must be ours.
        half_way = helm.half_way()
        after = "" if half_way else checked()
        if self._entered(color, version, claim):
            return self.status(color)
        if half_way:
            self._settle(helm, color, same=earlier is not None and earlier.epoch == epoch)
            after = checked()
        before = _good(helm.history())
        self._tell_difference(helm, after)
        look = Look(lambda: self._over(color, claim), lambda: self._unready(color))
        with self._taken_back(helm, color, claim, before, look):
            helm.upgrade(chart, values, mine, look.gone)
            look.upgraded = True
            up = self._grown(color, version, claim)
        self._claimed(color, claim, done=version)
        return up

    def diagnose(self, color: Color) -> str:
        """Return what every deployer to Kubernetes tells, and Helm's own history before it; raises nothing."""
        try:
            told = self._helm(color).told()[-10:]
        except BlueGreenError as error:
            told = [f"helm history: {' '.join(error.fact.split())}"]
        rest = super().diagnose(color).splitlines()
        return "\n".join([*told, *rest][:LONGEST_DIAGNOSIS])

    def retire(self, color: Color, epoch: int) -> None:
        """
        Scale the color to 0 pods or uninstall its release, as the service file says.

        :raises DeployFenced: a newer claim has the color
        :raises DeployError: it was not done
        """
        claim = Claim(self._service.service, color, epoch, "")
        if self._plan.retire != "leave":
            self._claimed(color, claim)
        if self._plan.retire != "uninstall":
            super().retire(color, epoch)
            return
        found = self._found(color)
        if found is not None:
            self._spare_budgets(color, found)
        self._helm(color).uninstall()

    def _noted(self, color: Color, up: list[Json]) -> str | None:
        """Return what was brought up last: a chart's labels say its own version."""
        record = self._record(color)
        return record.done if record and record.done else super()._noted(color, up)

    # Before anything is touched

    def _helm(self, color: Color) -> Helm:
        access, namespace = self._objects.cluster.access, self._objects.cluster.namespace
        seconds = self._plan.ready_within.total_seconds()
        name, service = self._plan.releases[color], self._service.service
        return Helm(self._plan.program, access, namespace, name, seconds, service, color, self._log, self._hide)

    def _password(self, key: str, connection: str) -> str:
        found = super()._password(key, connection)
        if found.strip():
            return found
        raise SecretMissing(
            f"connection {connection}, which deploy.secrets.{key} names, has no password",
            service=self._service.service,
            next_step="nothing was touched; give it one, or take the key out",
        )

    @property
    def _hide(self) -> tuple[str, ...]:
        return (*super()._hide, *parts(self._passwords.values()))

    def _chart(self, words: Mapping[str, str]) -> list[str]:
        where = ["--repo", self._plan.repository] if self._plan.repository else []
        version = ["--version", filled(self._plan.chart_version, words)] if self._plan.chart_version else []
        return [filled(self._plan.chart, words), *where, *version]

    def _refuse_odd(self, color: Color, after: str) -> None:
        """Refuse a chart without the color's Deployment, and one that would let a role run on a color without traffic."""
        try:
            objects, name = objects_in(after), self._plan.deployments[color]
        except ValueError as error:
            raise self._refused(color, str(error), "see helm template") from None
        if f"{DEPLOYMENTS.name} {name}" not in objects:
            made = ", ".join(one for one in objects if one.startswith(DEPLOYMENTS.name)) or "no Deployment"
            raise self._refused(color, f"the chart makes no Deployment {name}, but {made}", "see deploy.deployments")
        for role in self._plan.roles:
            kind, name = self._roles.object_of(role, color)
            spec = (objects.get(f"{kind.name} {name}") or {}).get("spec")
            runs = spec and (spec.get("replicas", 1) if kind is DEPLOYMENTS else not spec.get("suspend"))
            if runs:
                mend = "give it 0 replicas (a CronJob: suspend: true) in the values: the switch starts it"
                raise self._refused(color, f"the chart would let {role} run on {color} at once", mend)

    # The fence

    def _fence(self, color: Color) -> str:
        return f"bluegreen-fence-{self._service.service}-{color}"

    def _claimed(self, color: Color, claim: Claim, done: str | None = None) -> Json:
        body = {"data": {"service": self._service.service, "color": str(color)}}
        if self._objects.find(CONFIG_MAPS, self._fence(color), color) is None:
            self._objects.apply(CONFIG_MAPS, self._fence(color), claim, lambda _: body)
        return self._objects.change(CONFIG_MAPS, self._fence(color), claim, lambda _found, _before: [], done)

    def _entered(self, color: Color, version: str, claim: Claim) -> bool:
        """Claim the color; tell whether this very release has it up already."""
        record = record_of(self._claimed(color, claim), self._service.service, color)
        found = self._found(color)
        up = record and record.done == version and found and found["spec"].get("replicas") and rollout(found).done
        if not up or not self._up(self._asked(color), version):
            return False
        self._log(f"{self._service.service}: {color}: {version} is up already, by this very release")
        return True

    def _record(self, color: Color) -> Record | None:
        found = self._objects.find(CONFIG_MAPS, self._fence(color), color)
        return record_of(found, self._service.service, color) if found else None

    def _over(self, color: Color, claim: Claim) -> bool:
        """Tell whether a newer claim has the color; what cannot be asked now is asked again."""
        try:
            claim.over(self._objects.cluster.get(CONFIG_MAPS, self._fence(color)))
        except DeployFenced:
            return True
        except (ClusterTrouble, DeployError):
            return False
        return False

    def _unready(self, color: Color) -> str:
        """Return what keeps a color from being up, for the time when Helm has taken all of it back."""
        try:
            found = self._found(color)
            if found is None or rollout(found).done:
                return ""
            self._log(f"{self._service.service}: {color}: {rollout(found).says}")
            return super().diagnose(color)
        except BlueGreenError:
            return ""

    # The steps

    def _settle(self, helm: Helm, color: Color, *, same: bool) -> None:
        """
        Wait for a Helm that an older deploy left at work, then end what it left half-way.

        :param same: it is of this very claim, whose fence does not end it; one of an older claim ends by itself
        """
        history: list[Json] = []
        failed: Deadline | None = None
        for _ in Deadline(self._wait if same else min(self._wait, ENDS_WITHIN)).tries(first_pause=0.5):
            history = helm.history()
            if not history or history[-1]["status"] == "deployed":
                return
            # One that failed is not at rest at once: the Helm that was ended may go back by itself yet.
            failed = (failed or Deadline(ENDS_WITHIN)) if history[-1]["status"] == "failed" else None
            if failed and not failed.left:
                return
        if not helm.half_way(history):
            return
        good = _good(history)
        said = f"{helm.line(history[-1])} was left half-way; back to {f'revision {good}' if good else 'nothing'}"
        self._log(f"{self._service.service}: {color}: {said}")
        self._back_to(helm, good)

    def _back_to(self, helm: Helm, revision: int) -> None:
        if revision:
            helm.rollback(revision)
        else:
            helm.uninstall()

    def _tell_difference(self, helm: Helm, after: str) -> None:
        try:
            lines = list(difference(helm.manifest(), after, self._hide))
        except ValueError as error:
            lines = [f"no difference to show: {error}"]
        for line in lines:
            self._log(helm.hidden(line))

    def _grown(self, color: Color, version: str, claim: Claim) -> Deployed:
        """Give the color at least the pods that it needs, and wait for it."""
        name = self._plan.deployments[color]
        least = self._least(color, self._found(color))

        def grow(found: Json, _: object) -> list[Json]:
            few = found["spec"].get("replicas", 1) < least
            return [{"op": "replace", "path": "/spec/replicas", "value": least}] if few else []

        return self._come_up(color, version, claim, self._objects.change(DEPLOYMENTS, name, claim, grow))

    @contextmanager
    def _taken_back(self, helm: Helm, color: Color, claim: Claim, before: int, look: Look) -> Iterator[None]:
        """Take back what failed once Helm itself was content with it, and say what is there now; not from a newer claim."""
        try:
            yield
        except DeployFenced:
            raise
        except DeployError as error:
            try:
                self._claimed(color, claim)
                said = self._said_back(helm, before, look)
            except DeployFenced:
                raise
            except DeployError as more:
                said = f"it was not taken back: {more.fact}"
            self._log_history(helm)
            seen = "" if look.upgraded else self._seen(color, look)
            raise DeployError(
                f"{error.fact.rstrip()}{seen}\n{said}",
                service=error.service,
                part=error.part,
                next_step=error.next_step,
            ) from error

    def _seen(self, color: Color, look: Look) -> str:
        """Return the targets' answers and the last lines of what was found before Helm took it back."""
        lines, targets = look.last.splitlines(), len(self._service.colors[color].targets)
        told = [*lines[:targets], *lines[targets:][-TAIL:]]
        return "".join(["\ndiagnosis, before it was taken back:", *(f"\n  {line}" for line in told)]) if told else ""

    def _said_back(self, helm: Helm, before: int, look: Look) -> str:
        if not look.upgraded:
            if helm.half_way():
                return "Helm was ended in the middle of it: the next deploy settles what it left"
            return "Helm took back what failed"
        self._back_to(helm, before)
        return f"it is rolled back to revision {before}" if before else "it is uninstalled: there was nothing before"

    def _log_history(self, helm: Helm) -> None:
        try:
            lines = helm.told()
        except DeployError as error:
            lines = [f"helm history: {error.fact}"]
        for line in lines:
            self._log(line)


def _good(history: list[Json]) -> int:
    """Return the last revision that was deployed whole; 0 for none."""
    good = [int(one["revision"]) for one in history if one["status"] in ("deployed", "superseded")]
    return max(good, default=0)
