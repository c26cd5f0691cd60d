"""State that lives in the service: brought to the idle color before it gets traffic, and back when that went back."""

from __future__ import annotations

from typing import Any

from bluegreen.catalog.sessions import StateTransfer
from bluegreen.core.colors import Color
from bluegreen.core.errors import CheckFailed, DeployError
from bluegreen.core.ports import Secrets
from bluegreen.deployers.child import Child
from bluegreen.deployers.environment import inherited
from bluegreen.release.finished import still_ours
from bluegreen.release.plan import Plan
from bluegreen.release.ports import Ports


def transfer(ports: Ports, plan: Plan, secrets: Secrets) -> dict[str, Any]:
    """
    Bring the live color's state to the idle one, and let it be checked.

    :returns: JSON for XCom
    :raises ReleaseFinished: the release is over
    :raises TrafficConflict: another one holds the service
    :raises CheckFailed: a command failed; it has its last lines
    :raises SecretMissing: a connection is not there
    """
    state = _transferred(plan)
    still_ours(ports, plan.run, plan.release, ports.router.read())
    for name, argv in (("transfer", state.transfer), ("check", state.check)):
        try:
            _run(ports, plan, state, argv, plan.idle, secrets)
        except DeployError as error:
            raise CheckFailed(
                f"state.{name}: {error.fact}",
                service=plan.service.service,
                part=f"state of {plan.idle}",
                next_step="no traffic was moved; mend the command and start a new release",
            ) from error
        ports.log(f"state.{name} to {plan.idle}: done")
    return {"release": plan.release, "state": f"{plan.live} to {plan.idle}"}


def reverse(ports: Ports, plan: Plan, secrets: Secrets) -> str:
    """Bring state back after the traffic went back; raises nothing, as the traffic stays there: returns what went wrong."""
    try:
        _run(ports, plan, _transferred(plan), _transferred(plan).reverse, plan.live, secrets)
    except Exception as error:  # noqa: BLE001 - whatever a command does, the word of the restore counts
        said = f"the traffic is on {plan.live}, but state.reverse failed: {error}"
        ports.log(f"warning: {said}")
        return said
    ports.log(f"state.reverse to {plan.live}: done")
    return ""


def _transferred(plan: Plan) -> StateTransfer:
    assert isinstance(plan.service.state, StateTransfer)  # noqa: S101 - asked for such services only
    return plan.service.state


def _run(ports: Ports, plan: Plan, state: StateTransfer, argv: tuple[str, ...], to: Color, secrets: Secrets) -> None:
    service = plan.service
    passwords = {name: secrets(connection).password for name, connection in state.secrets.items()}
    words = {
        "SERVICE": service.service,
        "COLOR": str(to),
        "FROM": str(to.other),
        "TARGETS": " ".join(service.colors[to].targets),
        "FROM_TARGETS": " ".join(service.colors[to.other].targets),
        "VERSION": plan.versions.get(to, ""),
        "EPOCH": str(plan.epoch),
        "RELEASE": plan.release,
    }
    Child(
        argv=argv,
        env=inherited() | passwords | words,
        cwd=state.cwd,
        timeout=state.timeout,
        say=ports.log,
        hide=tuple(passwords.values()),
        service=service.service,
        part=str(to),
    ).run()
