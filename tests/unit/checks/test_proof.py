"""Proofs against real servers: what they answer, and what must not count as an answer."""

from __future__ import annotations

import asyncio
import itertools
import random
import re
import ssl
import threading
import time
from contextlib import ExitStack
from datetime import timedelta
from urllib.parse import parse_qs, urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from bluegreen.catalog.models import Entry
from bluegreen.checks.proof import OUT_OF_TIME, STICKY_KEY, prove, prove_again
from bluegreen.core.colors import Color, Split
from bluegreen.core.deadlines import Deadline
from bluegreen.core.evidence import Proof
from bluegreen.core.ports import Credentials
from bluegreen.core.stamp import now_utc
from tests.rigs.deploy_targets import LOOPBACK, Reply, Site, colored, free_port

BLUE, GREEN = Split.whole_on(Color.BLUE), Split.whole_on(Color.GREEN)
ENTRY = Entry(url="http://shop.example/base", path="/ping?deep=1")


@pytest.fixture
def sites():
    with ExitStack() as stack:
        yield lambda reply: stack.enter_context(Site(reply))


def always(reply: Reply):
    return lambda _: reply


def one(site: Site) -> dict[str, str]:
    return {"lb1": site.address}


def mostly_blue(odd: Reply):
    """Every tenth answer is another one."""
    numbers = itertools.count(1)
    return lambda _: odd if next(numbers) % 10 == 0 else colored("blue")


def test_each_request_is_another_client_of_the_routers_cookie(sites):
    site = sites(always(colored("blue")))
    prove(ENTRY, one(site), BLUE, cookie="sid")
    cookies = [asked.headers["Cookie"] for asked in site.asked]
    assert len(set(cookies)) == len(cookies) == 50
    assert all(cookie.startswith("sid=") for cookie in cookies)


def test_a_whole_split_is_proven_on_every_node(sites):
    nodes = {name: sites(always(colored("blue"))) for name in ("lb1", "lb2")}
    proof = prove(ENTRY, {name: site.address for name, site in nodes.items()}, BLUE)
    assert proof.says == "proven"
    assert [(node.node, node.answers, node.failures) for node in proof.nodes] == [
        (name, {Color.BLUE: 50}, {}) for name in nodes
    ]
    assert all(len(site.asked) == site.connections == 50 for site in nodes.values())


def test_each_request_is_fresh_and_bears_the_entrys_name_and_a_key_of_its_own(sites):
    site = sites(always(colored("blue")))
    prove(ENTRY, one(site), BLUE)
    keys = {parse_qs(urlsplit(asked.path).query)[STICKY_KEY][0] for asked in site.asked}
    assert len(keys) == 50
    asked = site.asked[0]
    assert asked.headers["Host"] == "shop.example"
    assert urlsplit(asked.path).path == "/base/ping"
    assert parse_qs(urlsplit(asked.path).query)["deep"] == ["1"]
    assert f"{STICKY_KEY}={asked.headers['X-Bluegreen-Proof']}" in asked.headers["Cookie"]
    assert asked.headers["Connection"] == "close"


def test_an_entry_that_is_an_address_is_pinned_to_the_node_too(sites):
    site, wrong = sites(always(colored("blue"))), sites(always(colored("green")))
    assert prove(Entry(url=wrong.url), one(site), BLUE).proven is True
    assert site.asked[0].headers["Host"] == wrong.address
    assert not wrong.asked


def test_a_cookie_of_the_router_is_not_sent_back(sites):
    site = sites(always(colored("blue", **{"Set-Cookie": "color=blue"})))
    prove(ENTRY, one(site), BLUE)
    assert not any("color=" in asked.headers["Cookie"] for asked in site.asked)


def test_one_answer_of_the_wrong_color_is_too_many(sites):
    numbers = itertools.count()
    site = sites(lambda _: colored("green" if next(numbers) == 30 else "blue"))
    proof = prove(ENTRY, one(site), BLUE)
    assert proof.says == "not proven"
    assert "lb1: wanted blue/green 100/0, found 49 blue + 1 green" in proof.reason


def test_one_bad_node_is_named_among_good_ones(sites):
    good, bad = sites(always(colored("blue"))), sites(always(colored("green")))
    proof = prove(ENTRY, {"lb1": good.address, "lb2": bad.address}, BLUE)
    assert proof.proven is False
    assert "lb2" in proof.reason
    assert "lb1" not in proof.reason


def test_a_share_is_proven(sites):
    rng = random.Random(1)
    site = sites(lambda _: colored("green" if rng.random() < 0.1 else "blue"))
    proof = prove(ENTRY, one(site), Split(90, 10))
    assert proof.says == "proven"
    assert proof.nodes[0].total == 300


def test_another_share_is_asked_for_twice_and_refuted(sites):
    rng = random.Random(2)
    site = sites(lambda _: colored("green" if rng.random() < 0.4 else "blue"))
    proof = prove(ENTRY, one(site), Split(90, 10))
    assert proof.says == "not proven"
    assert proof.nodes[0].total == 900
    assert " and then " in proof.reason


def test_an_unlucky_first_sample_is_made_good_by_the_second(sites):
    numbers = itertools.count()
    site = sites(lambda _: colored("green" if (n := next(numbers)) < 60 or (n > 300 and n % 10 == 0) else "blue"))
    proof = prove(ENTRY, one(site), Split(90, 10))
    assert proof.proven is True
    assert proof.nodes[0].total == 900
    # Its last sample is the one that proves; a sum of both would look like another share.
    assert re.search(r"240 blue \+ 60 green and then 5\d\d blue \+ \d\d green$", proof.reason)


@pytest.mark.parametrize("status", [404, 500, 503])
def test_an_error_that_bears_the_color_says_who_served(sites, status):
    site = sites(always(Reply(status, {"X-Release-Color": " Blue "}, "sorry")))
    assert prove(ENTRY, one(site), BLUE).proven is True


@pytest.mark.parametrize(
    ("odd", "kind", "example"),
    [
        (Reply(503, body="No server is available"), "without color", "503 without X-Release-Color: No server is"),
        (Reply(302, {"Location": "/login", "X-Release-Color": "blue"}), "redirect", "302 to /login"),
        (colored("purple"), "unknown color", "X-Release-Color: purple"),
        (Reply(cut=True), "broken connection", "Server disconnected"),
        (Reply(headers={"X-Release-Color": "blue"}, body="half", cut=True), "broken connection", ""),
    ],
)
def test_what_is_no_answer_of_a_color_is_counted_by_kind(sites, odd, kind, example):
    proof = prove(ENTRY, one(sites(mostly_blue(odd))), BLUE)
    assert proof.says == "not proven"
    assert proof.nodes[0].failures == {kind: 5}
    assert proof.nodes[0].answers == {Color.BLUE: 45}
    assert f"lb1: 5 {kind} (such as {example}" in proof.reason
    assert "of 50 requests" in proof.reason


def test_failures_do_not_hide_behind_a_good_share(sites):
    rng, numbers = random.Random(3), itertools.count()
    site = sites(lambda _: Reply(502) if next(numbers) == 100 else colored("green" if rng.random() < 0.1 else "blue"))
    proof = prove(ENTRY, one(site), Split(90, 10))
    assert proof.proven is False
    assert proof.nodes[0].failures == {"without color": 1}


def test_two_colors_in_one_answer_are_none(sites):
    def reply(_):
        return Reply(headers={"X-Release-Color": "blue", "x-release-color": "green"})

    assert prove(ENTRY, one(sites(reply)), BLUE).nodes[0].failures.keys() == {"unknown color"}


def test_a_node_that_refuses_connections(sites):
    proof = prove(ENTRY, {"lb1": f"{LOOPBACK}:{free_port()}"}, BLUE)
    assert proof.proven is False
    assert proof.nodes[0].failures.keys() == {"no connection"}


def test_a_hanging_node_is_given_up_after_its_requests_time(sites):
    site = sites(always(Reply(hang=30)))
    start = time.monotonic()
    proof = prove(ENTRY, one(site), BLUE, request_timeout=timedelta(milliseconds=200))
    assert time.monotonic() - start < 2
    assert proof.nodes[0].failures == {"timeout": 16}


def test_a_hanging_node_is_given_up_after_its_own_time_and_a_good_one_is_not(sites):
    good, slow = sites(always(colored("blue"))), sites(always(Reply(hang=30)))
    start = time.monotonic()
    nodes = {"good": good.address, "slow": slow.address}
    proof = prove(ENTRY, nodes, BLUE, node_timeout=timedelta(milliseconds=500))
    assert time.monotonic() - start < 2
    assert proof.nodes[0].answers == {Color.BLUE: 50}
    assert proof.nodes[1].failures == {OUT_OF_TIME: 50}
    assert "slow: 50 out of time (such as 0.5 s for the node)" in proof.reason


def test_without_nodes_nothing_is_proven():
    proof = prove(ENTRY, {}, BLUE)
    assert proof.says == "unproven"
    assert proof.nodes == ()


def test_the_login_is_sent_and_never_quoted(sites):
    def echo(asked):
        return Reply(401, body=f"you sent {asked.headers['Authorization']} with s3cret-word")

    site = sites(echo)
    proof = prove(ENTRY, one(site), BLUE, Credentials("probe", "s3cret-word"))
    assert site.asked[0].headers["Authorization"].startswith("Basic ")
    text = repr(proof) + str(proof.as_json())
    assert site.asked[0].headers["Authorization"].split()[1] not in text
    assert "s3cret-word" not in text


def test_long_answers_are_quoted_short(sites):
    proof = prove(ENTRY, one(sites(always(Reply(500, body="x" * 5000)))), BLUE)
    assert len(proof.reason) < 500


def test_it_runs_in_a_thread_beside_a_running_loop(sites):
    site = sites(always(colored("green")))

    async def main():
        return await asyncio.gather(*(asyncio.to_thread(prove, ENTRY, one(site), GREEN) for _ in range(2)))

    assert [proof.proven for proof in asyncio.run(main())] == [True, True]


@pytest.fixture
def https(sites, tmp_path):
    """A site under the name shop.example, whose authority nobody knows; and the server names it was asked for."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ca")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
        .not_valid_before(now_utc() - timedelta(days=1)).not_valid_after(now_utc() + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("shop.example")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    ca, pair = tmp_path / "ca.pem", tmp_path / "pair.pem"
    ca.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    plain = (serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    pair.write_bytes(key.private_bytes(serialization.Encoding.PEM, *plain) + ca.read_bytes())
    context, names = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), []
    context.load_cert_chain(pair)
    context.sni_callback = lambda _socket, name, _context: names.append(name)
    site = sites(always(colored("blue")))
    site._server.socket = context.wrap_socket(site._server.socket, server_side=True)
    return site, ca, names


def test_https_asks_for_the_entrys_name_and_trusts_its_authority(https):
    site, ca, names = https
    proof = prove(Entry(url="https://shop.example", ca_file=ca), one(site), BLUE)
    assert proof.says == "proven", proof.reason
    assert set(names) == {"shop.example"}


def test_https_does_not_trust_an_unknown_authority_or_another_name(https):
    site, ca, _ = https
    for entry in (Entry(url="https://shop.example"), Entry(url="https://other.example", ca_file=ca)):
        proof = prove(entry, one(site), BLUE)
        assert proof.proven is False
        assert proof.nodes[0].failures.keys() == {"tls"}


def test_an_unreadable_authority_is_named(sites, tmp_path):
    entry = Entry(url="https://shop.example", ca_file=tmp_path / "none.pem")
    proof = prove(entry, one(sites(always(colored("blue")))), BLUE)
    assert proof.proven is False
    assert "none.pem" in proof.reason


def test_threads_do_not_disturb_each_other(sites):
    blue, green = sites(always(colored("blue"))), sites(always(colored("green")))
    found = {}

    def run(site, split):
        found[str(split)] = prove(ENTRY, one(site), split).proven

    threads = [threading.Thread(target=run, args=pair) for pair in ((blue, BLUE), (green, GREEN))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {"100/0": True, "0/100": True}


# A data plane that follows late


@pytest.mark.parametrize(
    ("within", "answers", "proven", "asked"),
    [
        (0, [False, True], False, 1),  # what says when it has a write is asked once
        (10, [True], True, 1),
        (10, [None], None, 1),
        (10, [False, True, True], True, 3),
        (10, [False, False, True, False, True, True], True, 6),  # one that holds among such that do not is luck
        (10, [False] * 99, False, 7),
    ],
)
def test_a_proof_is_tried_again_while_a_write_is_on_its_way(within, answers, proven, asked):
    now, given = [0.0], iter(answers)
    seen = []

    def ask() -> Proof:
        seen.append(Proof("0/100", next(given), "so"))
        return seen[-1]

    deadline = Deadline(timedelta(seconds=within), lambda: now[0], lambda pause: now.__setitem__(0, now[0] + pause))
    assert (prove_again(ask, deadline).proven, len(seen)) == (proven, asked)
