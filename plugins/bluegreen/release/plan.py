"""Plan: look at everything, refuse what cannot be, then claim the service for one release."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from bluegreen.catalog.approvals import Approval
from bluegreen.catalog.durations import text
from bluegreen.catalog.models import CanaryStep, Service
from bluegreen.core.colors import Color, Split
from bluegreen.core.errors import NotServing, ReleaseRefused, RouterUnreachable, TrafficConflict
from bluegreen.core.ports import CatchesUp, Foresees
from bluegreen.core.reading import Reading
from bluegreen.core.stamp import Phase, Stamp
from bluegreen.release.answer import who
from bluegreen.release.evidence import refuse_bad_queries, refuse_uncounted
from bluegreen.release.notify import Of, tell
from bluegreen.release.ports import Ports
from bluegreen.release.restore import restore

Skippable = Literal["prewarm", "smoke", "canary", "watch"]


def _no_run_lives(run: str) -> bool:  # noqa: ARG001 - nobody is there to be asked
    return False


@dataclass(frozen=True)
class Request:
    """
    What somebody asks for.

    :param run: the DAG run's id
    :param version: the version to release
    :param by: who asks
    :param canary: other canary steps than the service file's, or None
    :param watch: another watch after the full switch, or None
    :param skip: steps to leave out
    :param skip_reason: why; needed with ``skip``
    :param alive: tells whether another DAG run still runs; a claim has no lease that would say so
    """

    run: str
    version: str
    by: str
    canary: Sequence[CanaryStep] | None = None
    watch: timedelta | None = None
    skip: Sequence[Skippable] = field(default_factory=tuple)
    skip_reason: str = ""
    alive: Callable[[str], bool] = _no_run_lives


class Plan(BaseModel):
    """
    A frozen release: an edited catalog changes nothing under way. It travels as JSON.

    :param release: run and claim epoch, as every stamp of it says
    :param epoch: the claim's epoch
    :param live: the color that had the traffic, and gets it back
    :param idle: the color that the version goes to
    :param old_version: what runs on ``live``
    :param at: when the service was claimed
    """

    model_config = ConfigDict(frozen=True)

    service: Service
    run: str
    release: str
    epoch: int
    live: Color
    idle: Color
    version: str
    old_version: str | None
    by: str
    skip: tuple[Skippable, ...] = ()
    skip_reason: str = ""
    at: AwareDatetime | None = None

    @property
    def versions(self) -> dict[Color, str]:
        """Version by color once the idle color is deployed."""
        return {self.idle: self.version} | ({self.live: self.old_version} if self.old_version else {})

    def skips(self, step: Skippable) -> bool:
        """Tell whether somebody asked, with a reason, to leave a step out."""
        return step in self.skip

    def as_json(self) -> dict[str, Any]:
        """JSON for XCom."""
        return self.model_dump(mode="json")


def plan(ports: Ports, request: Request) -> Plan:
    """
    Claim the service.

    :raises ReleaseRefused: the request is wrong, or the service is in a state that a person must end first
    :raises TrafficConflict: another release holds it
    :raises RouterUnreachable: a node does not answer
    :raises NotServing: the live color does not serve, so there would be no way back
    :raises UnsupportedSplit: the router cannot make a share of the canary
    """
    service = _resolved(ports, request)
    reading = _at_rest(ports, request)
    live, stamp = _live(ports, reading), reading.stamp
    ports.log(f"found on {', '.join(node.node for node in reading.nodes)}: {reading.says()}")
    old_version = stamp.versions.get(live) if stamp else None
    if request.version == old_version:
        raise _refused(ports, f"version {request.version} is live already, on {live}", "give another version")
    if not ports.health(reading, live).serves:
        raise NotServing(
            f"live color {live} has no healthy server: there would be no way back",
            service=ports.name,
            part=live,
            next_step="mend it first, see bluegreen status",
        )
    _foresee(ports, service, request, live)
    epoch = (stamp.epoch if stamp else 0) + 1
    over = f", over {stamp.release}" if stamp and stamp.phase is Phase.CLAIMED and stamp.run != request.run else ""
    claim = Stamp(
        epoch=epoch,
        release=f"{request.run}@{epoch}",
        step="plan",
        phase=Phase.CLAIMED,
        back_to=live,
        # The idle color is about to be overwritten: whatever ran there is no way back any more.
        versions={live: old_version} if old_version else {},
        clients_follow_until=stamp.clients_follow_until if stamp else None,
        at=ports.now(),
        why=f"{request.by} releases {request.version} to {live.other}{over}",
    )
    claimed = ports.router.shift(Split.whole_on(live), stamp.identity if stamp else None, claim)
    ports.log(
        f"claimed at epoch {epoch}{over}: {old_version} on {live} stays live, {request.version} goes to {live.other}"
    )
    _tell_start(ports, request, claimed, claim)
    return Plan(
        service=service,
        run=request.run,
        release=claim.release,
        epoch=epoch,
        live=live,
        idle=live.other,
        version=request.version,
        old_version=old_version,
        by=request.by,
        skip=tuple(request.skip),
        skip_reason=request.skip_reason,
        at=claim.at,
    )


def _tell_start(ports: Ports, request: Request, claimed: Reading, claim: Stamp) -> None:
    of = Of(request.run, claim.release, request.version)
    tell(ports, "started", claimed, Phase.CLAIMED, request.by, claim.why, of=of)


def dry_run(ports: Ports, request: Request) -> list[str]:
    """Tell what a release would do, in its exact writes; nothing is touched."""
    service = _resolved(ports, request)
    reading = ports.router.read()
    _everything_answers(ports, reading)
    live, epoch = _live(ports, reading), reading.stamp.epoch if reading.stamp else 0
    _foresee(ports, service, request, live)
    nodes = ", ".join(node.node for node in reading.nodes)
    asked = service.release.approvals
    steps = [("claimed", Split.whole_on(live), _asking(asked.before_canary))]
    canary = service.release.canary if "canary" not in request.skip else ()
    steps += [("canary", Split.giving(live.other, step.share), f"watch {step.watch}") for step in canary]
    if asked.before_switch and canary:
        steps += [("held", Split.giving(live.other, canary[-1].share), _asking(asked.before_switch))]
    watch = "no watch" if "watch" in request.skip else f"watch {service.release.watch}"
    steps += [("switched", Split.whole_on(live.other), watch), ("settled", Split.whole_on(live.other), "")]
    lines = [f"now: {reading.says()}", f"deploy {request.version} to {live.other}; way back: {live}"]
    return lines + [
        f"epoch {epoch + n}: write blue/green {split} as {phase} to {nodes}" + (f", then {then}" if then else "")
        for n, (phase, split, then) in enumerate(steps, start=1)
    ]


def _foresee(ports: Ports, service: Service, request: Request, live: Color) -> None:
    """Refuse what could not be done in the end, before anything is deployed for it: a share, a query."""
    if isinstance(ports.router, Foresees) and "canary" not in request.skip:
        for step in service.release.canary:
            ports.router.foresee(Split.giving(live.other, step.share))
    if "watch" not in request.skip:
        refuse_uncounted(ports)
        refuse_bad_queries(ports, live)


def _asking(approval: Approval | None) -> str:
    return f"ask {who(approval)} for {text(approval.deadline)}" if approval else ""


def _resolved(ports: Ports, request: Request) -> Service:
    if not request.version.strip() or any(letter.isspace() for letter in request.version):
        raise _refused(ports, f"version is {request.version!r}", "give a version without spaces, like 1.5.0")
    if request.skip and not request.skip_reason.strip():
        raise _refused(
            ports, f"skip {', '.join(request.skip)} has no reason", "give skip_reason: it stands in the report"
        )
    release = ports.service.release
    changes: dict[str, Any] = {}
    if request.canary is not None:
        changes["canary"] = [step.model_dump(mode="json") for step in request.canary]
    if request.watch is not None:
        changes["watch"] = request.watch
    try:
        resolved = type(release).model_validate(release.model_dump() | changes)
    except ValidationError as error:
        said = "; ".join(str(one["msg"]).removeprefix("Value error, ") for one in error.errors())
        raise _refused(ports, said, "mend the params and start again") from error
    if ports.service.release.canary and not resolved.canary and not request.skip_reason.strip():
        raise _refused(
            ports, "no canary step is left and there is no reason", "give skip_reason: it stands in the report"
        )
    return ports.service.model_copy(update={"release": resolved})


def _at_rest(ports: Ports, request: Request) -> Reading:
    """Put back what a dead release left behind; refuse while another one lives."""
    reading = ports.router.read()
    _everything_answers(ports, reading)
    stamp = reading.stamp
    if stamp is None or not stamp.phase.transitional:
        _not_held(ports, request, stamp)
        if reading.lagging and isinstance(ports.router, CatchesUp):
            return ports.router.catch_up()
        return reading
    if stamp.run != request.run and not stamp.lease_out(ports.now()):
        raise TrafficConflict(
            f"release {stamp.release} is under way: {reading.says()}, lease until {stamp.lease}",
            service=ports.name,
            part="router",
            next_step="wait for it, or stop it with rollback__" + ports.name,
        )

    def dead(found: Stamp) -> bool:
        return found.run == request.run or found.lease_out(ports.now())

    found = restore(
        ports, why=f"{request.run} found the dead release {stamp.release}", by=request.by, run=stamp.run, still=dead
    )
    ports.log(found.says)
    return found.reading


def _not_held(ports: Ports, request: Request, stamp: Stamp | None) -> None:
    """
    Leave a release alone that lives and has all traffic whole.

    Its claim may be superseded. One that has settled ends in a moment, and must find its own stamp until then. What a
    dead run claimed is anybody's: no service is held for ever.
    """
    kept = (Phase.SETTLED,) if ports.service.release.concurrent == "supersede" else (Phase.CLAIMED, Phase.SETTLED)
    if stamp is None or stamp.phase not in kept or stamp.run == request.run or not request.alive(stamp.run):
        return
    raise TrafficConflict(
        f"held by {stamp.release} ({stamp.phase}: {stamp.why})",
        service=ports.name,
        part="plan",
        next_step=f"nothing was touched; wait for it, or stop it with rollback__{ports.name}",
    )


def _everything_answers(ports: Ports, reading: Reading) -> None:
    if reading.unreachable:
        names = ", ".join(f"{node.node} ({node.error})" for node in reading.unreachable)
        raise RouterUnreachable(
            f"does not answer: {names}", service=ports.name, part="router", next_step="a release needs every node"
        )


def _live(ports: Ports, reading: Reading) -> Color:
    adopt = f"see bluegreen status {ports.name}, then bluegreen adopt {ports.name}"
    if reading.stamp is None:
        raise _refused(ports, f"the router bears no stamp: {reading.says()}", adopt)
    if reading.foreign:
        raise _refused(ports, f"somebody changed the router by hand: {reading.says()}", adopt)
    if reading.stamp.phase is Phase.STRANDED:
        raise _refused(
            ports, f"stranded: {reading.stamp.why}", f"mend the other color, then bluegreen adopt {ports.name}"
        )
    if reading.stamp.phase.transitional:
        raise TrafficConflict(
            f"release {reading.stamp.release} is under way: {reading.says()}",
            service=ports.name,
            part="router",
            next_step="wait for it, or stop it with rollback__" + ports.name,
        )
    if reading.live is None or reading.lagging:
        raise _refused(
            ports, f"the nodes do not agree: {reading.says()}", f"bluegreen guard {ports.name} brings them together"
        )
    return reading.live


def _refused(ports: Ports, fact: str, next_step: str) -> ReleaseRefused:
    return ReleaseRefused(fact, service=ports.name, part="plan", next_step=next_step)
