"""Roles on Kubernetes: Deployments that are scaled, CronJobs that are suspended; both colors' objects bear the fence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from bluegreen.catalog.kube_deploys import KubeRole
from bluegreen.clusters.annotations import annotated
from bluegreen.clusters.objects import CRON_JOBS, DEPLOYMENTS, PODS, Json, Kind
from bluegreen.clusters.waits import Seen
from bluegreen.core.colors import Color
from bluegreen.core.deadlines import Deadline
from bluegreen.core.errors import DeployError, DeployFenced
from bluegreen.deployers.health_wait import Log
from bluegreen.deployers.kube_bodies import size_before
from bluegreen.deployers.kube_marks import ROLE, SIZE, VERSION_LABEL, Claim, record_of, shown
from bluegreen.deployers.kube_objects import Objects
from bluegreen.deployers.kube_rollout import rollout, selector
from bluegreen.deployers.role_moves import Verb, each_role, role_error, role_moves
from bluegreen.hosts.host_fence import Record


@dataclass(frozen=True)
class Roles:
    """
    The roles of a service.

    :param objects: the service's objects
    :param service: name in the catalog
    :param roles: by name, from the service file
    :param log: gets one line a move
    """

    objects: Objects
    service: str
    roles: Mapping[str, KubeRole]
    log: Log

    def move(self, color: Color, epoch: int, release: str, versions: Mapping[Color, str]) -> None:
        """
        Let every role run on a color only; see ``core.ports.RunsRoles``.

        What runs already is looked at all the same: it may be no more what was brought there.

        :raises DeployFenced: a newer write has moved a role
        :raises DeployError: a role did not stop or start
        """

        def one(role: str) -> None:
            claim = Claim(self.service, role, epoch, release)
            there = [each for each in Color if self._claimed(role, each, claim)]
            for verb, where in role_moves(color):
                self._moved(verb, role, where, claim, versions.get(where, ""))
            for each in there:
                self._change(role, each, claim, done=color)

        each_role(self.roles, one)

    def where(self) -> dict[str, Color | None]:
        """
        Return the color that each role was brought to; see ``core.ports.RunsRoles``.

        :raises DeployError: an object cannot be read
        """
        found = {role: self._records(role) for role in self.roles}
        known = {role: of for role, of in found.items() if of and not self._moving(role, of)}
        colors = {role: {one.done for one in of} for role, of in known.items()}
        return {role: Color(min(of)) if len(of) == 1 and min(of) else None for role, of in colors.items()}

    def object_of(self, role: str, color: Color) -> tuple[Kind, str]:
        """Return the object that a role is on a color."""
        plan = self.roles[role]
        if plan.deployments:
            return DEPLOYMENTS, plan.deployments[color]
        assert plan.cron_jobs is not None  # noqa: S101 - the model has one of the two
        return CRON_JOBS, plan.cron_jobs[color]

    def _records(self, role: str) -> list[Record]:
        found = [self.objects.find(*self.object_of(role, color), role) for color in Color]
        records = [record_of(one, self.service, role, ROLE) for one in found if one]
        return [one for one in records if one]

    def _moving(self, role: str, records: list[Record]) -> bool:
        """Tell whether somebody is moving a role at this moment, as far as one can tell: there is no lock."""
        within = datetime.now(UTC) - self.roles[role].timeout
        return any(not one.done and datetime.fromisoformat(one.since) > within for one in records)

    def _claimed(self, role: str, color: Color, claim: Claim) -> bool:
        if self.objects.find(*self.object_of(role, color), role) is None:
            return False  # the color was never deployed to
        self._change(role, color, claim, done="")
        return True

    def _change(self, role: str, color: Color, claim: Claim, done: str) -> None:
        def note(found: Json, _: Record | None) -> list[Json]:
            noted = claim.record(record_of(found, self.service, role, ROLE), done)
            return annotated(found, {ROLE: shown(noted)})

        self.objects.change(*self.object_of(role, color), claim, note)

    def _moved(self, verb: Verb, role: str, color: Color, claim: Claim, version: str) -> None:
        try:
            if verb == "stop":
                self._stop(role, color, claim)
            else:
                self._start(role, color, claim, version)
        except DeployFenced:
            raise
        except DeployError as error:
            raise role_error(self.service, role, verb, color, error.fact) from error
        self.log(f"{self.service}: {role}: {verb} on {color}: done")

    # What is done to one object

    def _stop(self, role: str, color: Color, claim: Claim) -> None:
        kind, name = self.object_of(role, color)
        found = self.objects.find(kind, name, role)
        if found is None:
            return
        self.objects.change(kind, name, claim, lambda now, _: stopping(kind, now))
        deadline, left = Deadline(self.roles[role].timeout), list[str]()

        def ended(seen: Seen) -> bool:
            left[:] = seen if kind is DEPLOYMENTS else _jobs(seen.get(name))
            return not left

        if kind is DEPLOYMENTS:
            held = self.objects.wait(PODS, role, ended, deadline, labels=selector(found))
        else:
            held = self.objects.wait(kind, role, ended, deadline, name=name)
        if not held:
            self._late(role, f"{kind.name} {name}: {', '.join(sorted(left))} did not end")

    def _start(self, role: str, color: Color, claim: Claim, version: str) -> None:
        kind, name = self.object_of(role, color)
        size = self.roles[role].replicas
        found = self.objects.change(kind, name, claim, lambda now, _: starting(kind, now, size))
        if kind is not DEPLOYMENTS:
            return
        runs = (found["spec"]["template"]["metadata"].get("labels") or {}).get(VERSION_LABEL, version)
        if version and runs != version:
            self.log(f"{self.service}: {role}: {name} is of version {runs}, the traffic of {version}")
        says = ""

        def up(seen: Seen) -> bool:
            nonlocal says
            found = rollout(seen[name]) if name in seen else None
            says = found.says if found else "it was deleted"
            return bool(found and found.done)

        if not self.objects.wait(kind, role, up, Deadline(self.roles[role].timeout), name=name):
            self._late(role, f"{kind.name} {name} is not up: {says}")

    def _late(self, role: str, fact: str) -> None:
        seconds = self.roles[role].timeout.total_seconds()
        step = "give deploy.roles more timeout where it takes so long"
        raise DeployError(f"{fact} within {seconds:g} s", service=self.service, part=role, next_step=step)


def stopping(kind: Kind, found: Json) -> list[Json]:
    """Return the patch that lets an object start no more pods, and notes how many it had."""
    if kind is not DEPLOYMENTS:
        suspended = found["spec"].get("suspend", False)
        return [] if suspended else [{"op": "add", "path": "/spec/suspend", "value": True}]
    size = found["spec"].get("replicas", 1)
    scaled = {"op": "replace", "path": "/spec/replicas", "value": 0}
    return [*annotated(found, {SIZE: str(size)}), scaled] if size else []


def starting(kind: Kind, found: Json, size: int | None) -> list[Json]:
    """
    Return the patch that lets an object run.

    :param size: pods that are wanted at least; None for as many as it had, or 1
    """
    if kind is not DEPLOYMENTS:
        return [{"op": "replace", "path": "/spec/suspend", "value": False}] if found["spec"].get("suspend") else []
    if found["spec"].get("replicas", 1):
        return []
    return [{"op": "replace", "path": "/spec/replicas", "value": size or size_before(found) or 1}]


def _jobs(found: Json | None) -> list[str]:
    return [one["name"] for one in ((found or {}).get("status") or {}).get("active") or []]
