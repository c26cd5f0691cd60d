"""Ports that many rigs take at the same time."""

from __future__ import annotations

import socket

import pytest

from demo import processes
from demo.processes import LOOPBACK, free_port, free_ports


def test_programs_beside_each_other_take_ports_of_parts_of_their_own(monkeypatch):
    taken = []
    for part in ("1/3", "2/3", "3/3"):
        monkeypatch.setenv("BLUEGREEN_PORTS", part)
        taken.append(free_ports(50))
    assert max(taken[0]) < min(taken[1]) < max(taken[1]) < min(taken[2])


@pytest.fixture
def few(monkeypatch):
    """Four ports that nobody uses, beside each other."""
    monkeypatch.setattr(processes, "_given", set())
    held = free_port()
    while len(near := [port for port in range(held, held + 4) if processes.port_taken_by(port) is None]) < 4:
        held = free_port()
    monkeypatch.setattr(processes, "_given", set())
    monkeypatch.setattr(processes, "_choice", lambda: range(near[0], near[-1] + 1))
    return near


def test_no_port_is_given_twice_while_there_are_others(few):
    assert sorted(free_port() for _ in few) == few
    assert len({*free_ports(2)}) == 2


def test_a_port_that_is_in_use_is_not_given(few):
    with socket.create_server((LOOPBACK, few[1])):
        assert sorted(free_ports(3)) == [few[0], *few[2:]]
        with pytest.raises(RuntimeError, match="only 3 of 4 free ports found"):
            free_ports(4)
