"""Facts are gathered beside each other; what cannot be had is a line that says why."""

from __future__ import annotations

import time

from bluegreen.core.errors import RouterUnreachable, SecretMissing
from bluegreen.core.ports import Credentials
from bluegreen.release import facts
from bluegreen.release.diagnose import diagnose
from bluegreen.release.facts import beside, gather
from tests.unit.release.world import SERVICE, claimed


def nobody(connection):
    raise SecretMissing("no such connection", part=connection)


def raising(error):
    def work():
        raise error

    return work


def test_each_part_has_its_own_time_and_its_own_error():
    began = time.monotonic()
    found, missing = beside(
        {
            "slow": (0.3, lambda: time.sleep(5)),
            "well": (1.0, lambda: 42),
            "told": (1.0, raising(RouterUnreachable("gone", part="lb1", next_step="start it"))),
            "odd": (1.0, raising(ZeroDivisionError("ours"))),
            "ended": (1.0, raising(SystemExit(3))),
        }
    )
    assert time.monotonic() - began < 2
    assert found == {"well": 42}
    assert missing == {
        "slow": "no answer within 0.3 s",
        "told": "lb1: gone; start it",
        "odd": "unexpected ZeroDivisionError: ours",
        "ended": "unexpected RuntimeError: SystemExit(3)",
    }


def test_a_diagnosis_of_nothing_that_answers_is_no_exception(monkeypatch):
    world = claimed()
    ports = world.ports(SERVICE.model_copy(update={"entry": SERVICE.entry.model_copy(update={"connection": "login"})}))
    monkeypatch.setattr(ports.router, "read", raising(ZeroDivisionError("router")))
    monkeypatch.setattr(ports.router, "check", raising(ZeroDivisionError("check")))
    monkeypatch.setattr(facts, "look_at_targets", lambda *_: 1 / 0)
    told = diagnose(ports, nobody)
    assert "NOT TO BE HAD\n  connection login: login: no such connection" in told.text()
    for part in ("router", "check", "targets"):
        assert f"  {part}: unexpected ZeroDivisionError: " in told.text()
    assert len(told.head()) == 3


def test_what_a_log_quotes_of_our_secrets_is_hidden(monkeypatch):
    service = SERVICE.model_copy(update={"entry": SERVICE.entry.model_copy(update={"connection": "login"})})
    ports = claimed().ports(service)
    monkeypatch.setattr(ports.deployer, "diagnose", lambda color: f"{color} said planted-1 and planted-2")
    found = gather(ports, lambda _: Credentials("me", "planted-1", extra={"private_key": "planted-2"}))
    assert "green said *** and ***" in found.logs["green"]
