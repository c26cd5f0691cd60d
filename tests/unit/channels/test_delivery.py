"""One dead channel: it holds up nobody else, and the caller for some seconds only."""

from __future__ import annotations

import socket
import time
from contextlib import ExitStack

import pytest

from bluegreen.catalog.alerts import Channel
from bluegreen.channels import posting
from bluegreen.channels.delivery import Channels
from bluegreen.core.errors import SecretMissing
from bluegreen.core.ports import Credentials
from tests.rigs.webhook import SECRET, Webhook
from tests.unit.channels.test_kinds import notice


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")


def closed_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def channels(urls, said, kind="webhook"):
    def secrets(name):
        if urls[name] is None:
            raise SecretMissing("there is no such connection", part=name, next_step="add it")
        return Credentials("", urls[name])

    return Channels([Channel(connection=name, kind=kind) for name in urls], secrets, said.append)


def test_one_that_hangs_refuses_fails_or_lacks_its_secret_keeps_no_other_from_being_told(monkeypatch):
    monkeypatch.setattr(posting, "PATIENCE", 1.0)
    said = []
    with ExitStack() as stack:
        hangs = stack.enter_context(Webhook(seconds=30))
        broken = stack.enter_context(Webhook(status=500))
        well = [stack.enter_context(Webhook(seconds=0.3)) for _ in range(3)]
        urls = {
            "hangs": hangs.url,
            "also_hangs": hangs.url,
            "refuses": f"http://127.0.0.1:{closed_port()}/{SECRET}",
            "broken": broken.url,
            "missing": None,
            "wrong": SECRET,
            **{f"well_{number}": hook.url for number, hook in enumerate(well)},
        }
        began = time.monotonic()
        channels(urls, said)(notice("stranded"))()
        took = time.monotonic() - began
        assert [len(hook.got) for hook in well] == [1, 1, 1]
    assert took < 2.0
    assert said == [
        "webhook hangs was not told: no answer within 1 s (stranded)",
        "webhook also_hangs was not told: no answer within 1 s (stranded)",
        "webhook refuses was not told: Connection refused (stranded)",
        "webhook broken was not told: it answered 500 (stranded)",
        "webhook missing was not told: missing: there is no such connection; add it (stranded)",
        "webhook wrong was not told: the connection's password is no http:// or https:// URL (stranded)",
        *(f"webhook well_{number} was told (stranded)" for number in range(3)),
    ]


def test_an_apprise_url_that_hangs_is_left_alone(monkeypatch):
    monkeypatch.setattr(posting, "PATIENCE", 0.5)
    said = []
    with Webhook(seconds=30) as hook:
        began = time.monotonic()
        channels({"slow": hook.url.replace("http:", "json:")}, said, "apprise")(notice("stranded"))()
    assert time.monotonic() - began < 2.0
    assert said == ["apprise slow was not told: no answer within 0.5 s (stranded)"]


def test_an_alert_is_never_closed_before_it_is_opened():
    said = []
    with Webhook(seconds=0.3) as hook:
        both = channels({"people": hook.url}, said)
        waiting = both(notice("unhealthy"))
        both(notice("restored"))()
        waiting()
    assert [got["event"] for got in hook.got] == ["unhealthy", "restored"]


def test_who_begins_to_tell_does_not_wait():
    with Webhook(seconds=30) as hook:
        began = time.monotonic()
        channels({"people": hook.url}, [])(notice("unhealthy"))
        assert time.monotonic() - began < 0.5
        hook.wait(1)


def test_what_would_come_too_late_is_not_sent(monkeypatch):
    monkeypatch.setattr(posting, "PATIENCE", 0.4)
    said = []
    with Webhook(seconds=1.5) as hook:
        both = channels({"people": hook.url}, said)
        both(notice("unhealthy"))()
        both(notice("restored"))()
        time.sleep(1.5)
    assert said == [
        f"webhook people was not told: no answer within 0.4 s ({name})" for name in ("unhealthy", "restored")
    ]
    assert len(hook.got) <= 2
