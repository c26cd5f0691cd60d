"""What DNS servers say, each by itself, against real ones."""

from __future__ import annotations

import time

import dns.resolver
import pytest

from bluegreen.checks import names
from bluegreen.checks.names import THIS_HOST, NameAnswer, ask_names, differing
from tests.rigs.dns_server import DnsServer

NAME = "shop.invalid"


@pytest.fixture
def asked(monkeypatch):
    """Ask these servers instead of the configured ones."""

    def ask(*servers, timeout=10.0):
        monkeypatch.setattr(names, "servers", lambda: [server.place for server in servers])
        return {answer.server: answer for answer in ask_names([NAME], timeout)}

    return ask


def test_each_server_is_told_with_its_ttl(asked):
    with DnsServer({NAME: "10.0.0.1"}, ttl=3600) as old, DnsServer({NAME: "10.0.0.2"}, ttl=30) as new:
        found = asked(old, new)
    one, two = (found[f"{host}:{port}"] for host, port in (old.place, new.place))
    assert (one.addresses, one.ttl, two.addresses, two.ttl) == (("10.0.0.1",), 3600, ("10.0.0.2",), 30)
    assert str(one).endswith(": 10.0.0.1, TTL 3600 s")
    assert differing(list(found.values())) == [NAME]


def test_what_cannot_be_had_is_a_sentence(asked):
    with DnsServer({}) as empty, DnsServer({}, deaf=True) as deaf:
        began = time.monotonic()
        found = asked(empty, deaf, timeout=0.5)
    assert time.monotonic() - began < 3
    assert found[f"{empty.place[0]}:{empty.place[1]}"].error == "there is no such name"
    assert found[f"{deaf.place[0]}:{deaf.place[1]}"].error == "no answer within 0.5 s"
    assert found[THIS_HOST].error


def test_servers_that_do_not_answer_differ_from_nobody():
    said = [NameAnswer("a", "1", ("10.0.0.1",)), NameAnswer("a", "2", error="no answer within 3 s")]
    assert differing(said) == []
    assert differing([*said, NameAnswer("a", "3", error="there is no such name")]) == ["a"]


def test_no_configured_server_is_a_sentence(monkeypatch):
    def none():
        raise dns.resolver.NoResolverConfiguration

    monkeypatch.setattr(names, "servers", none)
    assert "no server is configured" in ask_names([NAME], 0.5)[0].error


def test_addresses_need_no_server():
    assert ask_names(["127.0.0.1", "::1", "localhost"]) == []
