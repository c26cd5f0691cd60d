"""State that lives in the service: brought over and checked before traffic, brought back after the traffic went back."""

from __future__ import annotations

import pytest

from bluegreen.catalog.models import Service
from bluegreen.core.colors import Color
from bluegreen.core.errors import CheckFailed, TrafficConflict
from bluegreen.core.ports import Credentials
from bluegreen.release.state import reverse, transfer
from tests.unit.release.world import SERVICE, claimed

PLANTED = "planted-state-90ab12"


def secrets(_):
    return Credentials("", PLANTED)


@pytest.fixture
def world():
    return claimed()


@pytest.fixture
def run(world, tmp_path):
    """Ports and plan of a service whose state is a file a color."""
    for color, text in (("blue", "carts of blue"), ("green", "")):
        (tmp_path / color).write_text(text)

    def make(**more):
        state = {
            "type": "transfer",
            "transfer": ["sh", "-c", 'cp $FROM $COLOR; echo "$SERVICE $VERSION: $TARGETS <- $FROM_TARGETS"'],
            "check": ["cmp", "blue", "green"],
            "reverse": ["sh", "-c", "cp $FROM $COLOR; echo $RELEASE $EPOCH"],
            "cwd": str(tmp_path),
            "secrets": {"TOKEN": "state"},
        }
        service = Service.model_validate(SERVICE.frozen() | {"state": state | more})
        return world.ports(service), world.release.model_copy(update={"service": service})

    return make


def test_it_is_brought_over_checked_and_brought_back(world, run, tmp_path):
    ports, plan = run()
    assert transfer(ports, plan, secrets) == {"release": plan.release, "state": "blue to green"}
    assert (tmp_path / "green").read_text() == "carts of blue"
    assert "shop 2: http://127.0.0.1:3 <- http://127.0.0.1:2" in world.said
    (tmp_path / "green").write_text("one more cart")
    assert reverse(ports, plan, secrets) == ""
    assert (tmp_path / "blue").read_text() == "one more cart"
    assert f"{plan.release} {plan.epoch}" in world.said


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"transfer": ["sh", "-c", "echo no room for $TOKEN; exit 4"]}, r"state.transfer: sh: ended with code 4; its last lines:\n  no room for \*\*\*"),
        ({"check": ["sh", "-c", "echo 3 carts are missing; exit 1"]}, "state.check: sh: ended with code 1; .*\n  3 carts are missing"),
        ({"check": ["sleep", "9"], "timeout": "200ms"}, "state.check: sleep: did not end within 0.2 s"),
        ({"transfer": ["/no/such"]}, "state.transfer: /no/such: command not found"),
    ],
)  # fmt: skip
def test_what_is_not_brought_over_whole_ends_the_release_before_traffic(world, run, more, says):
    ports, plan = run(**more)
    with pytest.raises(CheckFailed, match=rf"(?s)shop: state of green: {says}.*no traffic was moved") as error:
        transfer(ports, plan, secrets)
    assert PLANTED not in str(error.value) + "\n".join(world.said)
    assert world.splits() == {"100/0"}


def test_a_reverse_that_fails_is_told_and_raises_nothing(world, run):
    ports, plan = run(reverse=["sh", "-c", "echo lost $TOKEN; exit 1"])
    said = reverse(ports, plan, secrets)
    assert said.startswith("the traffic is on blue, but state.reverse failed: shop: blue: sh: ended with code 1")
    assert PLANTED not in said
    assert f"warning: {said}" in world.said


def test_a_release_that_was_superseded_brings_nothing_over(world, run, tmp_path):
    ports, plan = run()
    for node in world.nodes:
        node.stamp = None
    with pytest.raises(TrafficConflict):
        transfer(ports, plan, secrets)
    assert (tmp_path / "green").read_text() == ""


def test_airflows_own_words_are_none_of_the_commands(world, run, monkeypatch):
    monkeypatch.setenv("AIRFLOW__CORE__FERNET_KEY", "of-airflow")
    ports, plan = run(check=["sh", "-c", 'test -z "$AIRFLOW__CORE__FERNET_KEY"'])
    transfer(ports, plan, secrets)
    assert plan.idle is Color.GREEN
