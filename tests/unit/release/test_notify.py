"""Who is told of a way back: a real HTTP server, exactly one POST, and never a restore that waits for it."""

from __future__ import annotations

import asyncio
import socket
import ssl
import subprocess
import threading
import time
from dataclasses import replace

import pytest

from bluegreen.catalog.alerts import Channel
from bluegreen.channels import posting
from bluegreen.channels.delivery import Channels
from bluegreen.core.colors import Color
from bluegreen.core.errors import SecretMissing
from bluegreen.core.ports import Credentials
from bluegreen.release import notify
from bluegreen.release.guard import guard
from bluegreen.release.restore import restore
from bluegreen.release.rollback import rollback
from bluegreen.release.shift import settle, shift
from bluegreen.release.watch import watch
from bluegreen.release.wiring import ports_for
from tests.rigs.webhook import SECRET, Webhook
from tests.unit.release.test_watch import RealTime, canary
from tests.unit.release.world import SERVICE, claimed


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.delenv(notify.AIRFLOW_URL, raising=False)


@pytest.fixture
def world():
    return claimed()


WAYS_BACK = ("restored", "rolled_back", "guarded", "stranded")


def telling(ports, url, log=None, events=WAYS_BACK):
    channels = [Channel(connection="shop_webhook", events=events)]
    return replace(ports, tell=Channels(channels, lambda _: Credentials("", url), log or ports.log))


def shifted(world, share=10):
    return shift(world.ports(), world.release, f"to-{share}", share, world.release.epoch)


def test_a_bad_release_tells_once_although_watch_rollback_safe_and_guard_all_confirm():
    world = RealTime()
    ports, spec = canary(world, lasts=30)
    world.errors[Color.GREEN] = 0.5
    with Webhook(look=world.splits) as hook:
        ports = telling(ports, hook.url)
        end = asyncio.run(watch(ports, spec))
        for by in ("rollback", "safe"):
            assert restore(ports, "it failed", by, spec.run).outcome == "already"
        assert guard(ports, "guardian").action == "none"
        time.sleep(0.2)
    assert end.restored["outcome"] == "restored"
    (told,) = hook.got
    assert hook.seen == [{"100/0"}]  # the traffic was whole before anybody was told
    assert (told["event"], told["by"], told["was"]) == ("restored", "canary_1_watch", "canary")
    assert (told["service"], told["run"], told["live"]) == ("shop", spec.run, "blue")
    assert (told["old_version"], told["version"]) == ("1", "2")
    assert "error_rate" in told["why"]
    assert "live is blue (1)" in told["text"]
    assert told["type"] == "application/json"


def test_two_that_restore_at_once_tell_once():
    world = RealTime()
    _, spec = canary(world, lasts=30)
    world.errors[Color.GREEN] = 0.5
    for node in world.nodes:
        node.delay = 0.02
    with Webhook() as hook:

        async def both():
            return await asyncio.gather(*(watch(telling(world.ports(), hook.url), spec) for _ in range(4)))

        ends = asyncio.run(both())
        time.sleep(0.2)
    assert len(hook.got) == 1
    assert [end.restored["outcome"] for end in ends].count("restored") == 1


def test_the_guard_tells_once_and_not_each_time_it_looks(world):
    shifted(world)
    world.serve(Color.BLUE, ready=0)
    world.wait(80)
    with Webhook() as hook:
        ports = telling(world.ports(), hook.url)
        assert [guard(ports, "guardian").action for _ in range(4)] == ["restored", "reported", "reported", "reported"]
    assert [told["event"] for told in hook.got] == ["stranded"]
    assert (hook.got[0]["live"], hook.got[0]["by"]) == ("green", "guardian")


def test_a_rollback_of_a_settled_release_tells_once_although_airflow_repeats_it(world):
    settle(world.ports(), world.release, shifted(world, 100).epoch)
    with Webhook(look=world.splits) as hook:
        ports = telling(world.ports(), hook.url)
        assert rollback(ports, "rollback-1", "checkout is broken", "ann").outcome == "restored"
        assert rollback(ports, "rollback-1", "checkout is broken", "ann").outcome == "already"
    assert [(told["event"], told["why"], told["by"]) for told in hook.got] == [
        ("rolled_back", "checkout is broken", "ann")
    ]
    assert hook.seen == [{"100/0"}]


def test_a_write_whose_writer_was_told_that_it_failed_is_told_of_all_the_same(world):
    shifted(world)
    for node in world.nodes:
        node.fails = "after"
    with Webhook() as hook:
        assert restore(telling(world.ports(), hook.url), "bad", "tests", world.release.run).outcome == "restored"
    assert len(hook.got) == 1


def test_a_release_that_goes_well_tells_of_no_way_back(world):
    with Webhook() as hook:
        ports = telling(world.ports(), hook.url)
        done = shift(ports, world.release, "switch", 100, world.release.epoch)
        settle(ports, world.release, done.epoch)
        assert restore(ports, "the run ended", "safe", world.release.run).outcome == "finished"
        guard(ports, "guardian")
    assert hook.got == []


def certificate(folder):
    done = [
        *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=127.0.0.1"),
        *("-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")),
    ]
    subprocess.run(done, check=True, capture_output=True, timeout=60)
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return made


def closed_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@pytest.mark.parametrize(
    ("trouble", "line"),
    [
        ("refuses", "was not told: Connection refused"),
        ("500", "was not told: it answered 500"),
        ("redirects", "was not told: it answered 302; redirects are not followed"),
        ("hangs", "was not told: no answer within 0.5 s"),
        ("drips", "was not told: no answer within 0.5 s"),
        ("certificate", "was not told: its certificate is not trusted"),
        ("no url", "was not told: the connection's password is no http:// or https:// URL"),
        ("control", "was not told: InvalidURL"),
        ("no name", "was not told: "),
    ],
)
def test_a_webhook_in_trouble_is_one_line_without_its_url(world, monkeypatch, tmp_path, capfd, trouble, line):
    monkeypatch.setattr(posting, "PATIENCE", 0.5 if trouble in ("hangs", "drips") else 3.0)
    shifted(world)
    with (
        Webhook() as elsewhere,
        Webhook(
            status={"500": 500, "redirects": 302}.get(trouble, 200),
            seconds=30 if trouble == "hangs" else 0,
            headers={"Location": elsewhere.url},
            drips=trouble == "drips",
            look=world.splits,
        ) as hook,
    ):
        url = {
            "refuses": f"http://127.0.0.1:{closed_port()}/services/{SECRET}",
            "certificate": hook.url.replace("http:", "https:"),
            "no url": f"hooks.example/{SECRET}",
            "control": f"{hook.url}/a b\n",
            "no name": f"http://nobody.invalid/{SECRET}",
        }.get(trouble, hook.url)
        if trouble == "certificate":
            hook.server.socket = certificate(tmp_path).wrap_socket(hook.server.socket, server_side=True)
        said = []
        found = restore(telling(world.ports(), url, said.append), "bad", "tests", world.release.run)
        assert (found.outcome, world.splits()) == ("restored", {"100/0"})
        assert elsewhere.got == []
        assert all(seen == {"100/0"} for seen in hook.seen)
    assert len(said) == 1
    assert line in said[0]
    printed = capfd.readouterr()
    everything = "".join([*said, *world.said, found.says, str(found.as_json()), printed.out, printed.err])
    assert SECRET not in everything


def test_without_its_secret_the_restore_is_the_same_and_says_so(world):
    shifted(world)

    def none(_):
        raise SecretMissing("there is none", part="shop_webhook")

    channels = Channels([Channel(connection="shop_webhook")], none, world.said.append)
    ports = replace(world.ports(), tell=channels)
    assert restore(ports, "bad", "tests", world.release.run).outcome == "restored"
    assert any("shop_webhook was not told: shop_webhook: there is none" in line for line in world.said)


def test_the_traffic_is_whole_while_the_webhook_still_hangs(world, monkeypatch):
    monkeypatch.setattr(posting, "PATIENCE", 2.0)
    shifted(world)
    with Webhook(seconds=30) as hook:
        ports = telling(world.ports(), hook.url)
        restoring = threading.Thread(target=lambda: restore(ports, "bad", "tests", world.release.run))
        restoring.start()
        hook.wait(1)
        assert restoring.is_alive()
        assert world.splits() == {"100/0"}
        restoring.join(30)


def test_only_a_service_that_names_a_webhook_has_one(monkeypatch):
    asked = []
    said = SERVICE.model_copy(update={"notify": SERVICE.notify.model_copy(update={"webhook": "shop_webhook"})})
    ports = ports_for(said, lambda name: (asked.append(name), Credentials())[1])
    assert isinstance(ports.tell, Channels)
    assert asked == []  # the secret is asked for only when there is something to tell
    assert not isinstance(ports_for(SERVICE, lambda _: Credentials()).tell, Channels)


def test_a_link_is_given_where_airflows_address_is_known(world, monkeypatch):
    monkeypatch.setenv(notify.AIRFLOW_URL, "https://airflow.example/")
    shifted(world)
    with Webhook() as hook:
        restore(telling(world.ports(), hook.url), "bad", "tests", world.release.run)
    assert hook.got[0]["link"] == "https://airflow.example/dags/release__shop/runs/run-1"
