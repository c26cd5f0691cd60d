"""Drains of routers that count no requests: open connections where the router keeps them, nothing where it tells nothing."""

import pytest

from bluegreen.core.colors import Color
from bluegreen.core.errors import RouterUnreachable
from bluegreen.core.reading import Reading
from bluegreen.release.drain import drain, wait_until_unused
from bluegreen.release.ports import Ports
from tests.rigs.deploy_targets import make_service

BLUE, GREEN = Color.BLUE, Color.GREEN
TARGETS = {color: [f"http://{color}.test"] for color in Color}


class Keeps:
    """Says what it is given, one answer after the other, the last one again and again."""

    def __init__(self, *answers):
        self.answers, self.asked = list(answers), []

    def connections(self, color):
        self.asked.append(color)
        if color is GREEN:
            return 7
        said = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(said, Exception):
            raise said
        return said


@pytest.fixture
def log():
    return []


def ports(router, log):
    service = make_service(TARGETS, release={"drain": "250ms"})
    return Ports(service=service, router=router, deployer=None, prove=None, log=log.append)


def test_the_drain_waits_until_no_connection_is_open(log):
    keeps = Keeps(3, 1, 0)
    found = drain(ports(keeps, log), BLUE)
    assert (found.in_flight, found.unit, found.colors) == (0, "connections", {"blue": 0, "green": 7})
    # Each is a command in every pod of it: none is asked twice for one look.
    assert keeps.asked == [BLUE, BLUE, BLUE, GREEN]
    assert log[0].startswith("draining blue: 3 open connections, ")
    assert log[-1].startswith("drained blue: 0 open connections after ")


def test_what_stays_open_is_told_and_no_error(log):
    found = drain(ports(Keeps(3), log), BLUE)
    assert (found.in_flight, found.seconds >= 0.25) == (3, True)
    assert log[-1].endswith("by color: blue 3, green 7")


@pytest.mark.parametrize("answer", [None, RouterUnreachable("is deaf", service="shop", part="one", next_step="ask it")])
def test_what_nobody_tells_is_unknown_and_not_waited_for(log, answer):
    keeps = Keeps(answer)
    found = drain(ports(keeps, log), BLUE)
    assert keeps.asked == [BLUE]
    assert (found.in_flight, found.seconds) == (None, 0.0)
    assert log[-1].startswith("not drained: connections that are open to blue stay there until they end")
    assert [line for line in log if "is deaf; ask it" in line] == log[:-1]


def test_a_node_that_stops_to_tell_leaves_an_unknown_number(log):
    deaf = RouterUnreachable("is deaf", service="shop", part="one", next_step="ask it")
    found = drain(ports(Keeps(2, deaf), log), BLUE)
    assert found.in_flight is None
    assert "drained blue: an unknown number of open connections" in log[-1]


def test_a_color_without_an_open_connection_is_asked_once(log):
    keeps = Keeps(0)
    assert drain(ports(keeps, log), BLUE).in_flight == 0
    assert keeps.asked == [BLUE, GREEN]


def test_a_router_that_tells_nothing_is_said_so(log):
    assert drain(ports(object(), log), BLUE).in_flight is None
    assert log == ["not drained: the router does not tell what still runs on blue"]


def test_open_connections_keep_no_color_from_its_next_version(log):
    wait_until_unused(ports(Keeps(3), log), BLUE, Reading("shop", ()))
    assert log == ["3 open connections to blue: its servers close them as they stop"]
