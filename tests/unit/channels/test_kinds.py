"""What each kind of channel really sends, to real HTTP and SMTP servers, and against the documented shapes."""

from __future__ import annotations

import builtins
from email import message_from_string

import pytest
from jsonschema import Draft202012Validator

from bluegreen.catalog.alerts import Channel
from bluegreen.channels.delivery import Channels
from bluegreen.core.notice import SEVERITY, Notice
from bluegreen.core.ports import Credentials
from tests.rigs.mail import Mailbox
from tests.rigs.webhook import SECRET, Webhook

EVENTS_V2 = {
    "type": "object",
    "additionalProperties": False,
    "required": ["routing_key", "event_action", "dedup_key", "payload"],
    "properties": {
        "routing_key": {"type": "string", "minLength": 1},
        "event_action": {"enum": ["trigger", "acknowledge", "resolve"]},
        "dedup_key": {"type": "string", "maxLength": 255},
        "client": {"type": "string"},
        "client_url": {"type": "string", "pattern": "^https?://"},
        "links": {
            "type": "array",
            "items": {
                "type": "object",
                "additionalProperties": False,
                "required": ["href"],
                "properties": {"href": {"type": "string", "pattern": "^https?://"}, "text": {"type": "string"}},
            },
        },
        "payload": {
            "type": "object",
            "additionalProperties": False,
            "required": ["summary", "source", "severity"],
            "properties": {
                "summary": {"type": "string", "minLength": 1, "maxLength": 1024},
                "source": {"type": "string", "minLength": 1},
                "severity": {"enum": ["critical", "error", "warning", "info"]},
                "timestamp": {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT[\d:.]+(Z|[+-]\d\d:\d\d)$"},
                "component": {"type": "string"},
                "group": {"type": "string"},
                "class": {"type": "string"},
                "custom_details": {"type": "object"},
            },
        },
    },
}
"""Events API v2, "Send an alert event", as PagerDuty documents it."""

CREATE_ALERT = {
    "type": "object",
    "additionalProperties": False,
    "required": ["message"],
    "properties": {
        "message": {"type": "string", "minLength": 1, "maxLength": 130},
        "alias": {"type": "string", "maxLength": 512},
        "description": {"type": "string", "maxLength": 15000},
        "priority": {"enum": ["P1", "P2", "P3", "P4", "P5"]},
        "entity": {"type": "string", "maxLength": 512},
        "source": {"type": "string", "maxLength": 100},
        "tags": {"type": "array", "maxItems": 20, "items": {"type": "string", "maxLength": 50}},
        "details": {"type": "object", "additionalProperties": {"type": "string"}},
    },
}
"""Opsgenie's Alert API, "Create alert", as it documents its limits."""

LINK = "https://airflow.example/dags/release__shop/runs/manual__2026"


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")


def notice(event, why="error_rate is 50 %", link=LINK):
    return Notice(
        "shop", event, "canary", why, "canary_1_watch", "manual__2026", "manual__2026@4", "blue", "1", "2",
        "2026-11-24T12:00:00.000Z", link,
    )  # fmt: skip


def told(kind, event="stranded", password=SECRET, host="", events=tuple(SEVERITY), **more):
    """Tell one channel, and return what the log says."""
    said = []
    channels = Channels(
        [Channel(connection="people", kind=kind, events=events)],
        lambda _: Credentials("", password, host),
        said.append,
    )
    channels(notice(event, **more))()
    assert SECRET not in "".join(said)
    return said


def body(got):
    return {name: value for name, value in got.items() if name not in ("path", "type", "login")}


@pytest.mark.parametrize("event", list(SEVERITY))
def test_pagerduty_gets_an_event_as_it_documents_it(event):
    with Webhook(status=202) as api:
        said = told("pagerduty", event, host=api.base, why="x" * 5000)
    (got,) = api.got
    assert got["path"] == "/v2/enqueue"
    assert list(Draft202012Validator(EVENTS_V2).iter_errors(body(got))) == []
    assert got["routing_key"] == SECRET
    assert (got["payload"]["severity"], got["payload"]["class"]) == (SEVERITY[event], event)
    assert got["links"] == [{"href": LINK, "text": "the run in Airflow"}]
    assert said == [f"pagerduty people was told ({event})"]


def test_pagerduty_resolves_what_it_triggered():
    with Webhook(status=202) as api:
        for event in ("waiting", "unhealthy", "restored", "finished", "rolled_back"):
            told("pagerduty", event, host=api.base)
    assert [got["event_action"] for got in api.got] == ["trigger", "trigger", "resolve", "resolve", "resolve"]
    assert {got["dedup_key"] for got in api.got} == {"shop:manual__2026@4"}


@pytest.mark.parametrize("event", list(SEVERITY))
def test_opsgenie_gets_an_alert_as_it_documents_it_and_its_close(event):
    with Webhook(status=202) as api:
        told("opsgenie", event, host=api.base, why="x" * 500)
    (got,) = api.got
    assert got["login"] == f"GenieKey {SECRET}"
    if event in ("restored", "rolled_back", "finished"):
        assert got["path"] == "/v2/alerts/shop%3Amanual__2026%404/close?identifierType=alias"
        assert set(body(got)) == {"source", "note"}
    else:
        assert got["path"] == "/v2/alerts"
        assert list(Draft202012Validator(CREATE_ALERT).iter_errors(body(got))) == []
        wanted = {"critical": "P1", "error": "P2", "warning": "P3", "info": "P5"}[SEVERITY[event]]
        assert (got["alias"], got["priority"]) == ("shop:manual__2026@4", wanted)


def test_without_airflows_address_there_is_no_link():
    with Webhook(status=202) as api:
        told("pagerduty", host=api.base, link="")
    assert not {"links", "client_url"} & set(api.got[0])


@pytest.mark.parametrize("kind", ["pagerduty", "opsgenie"])
def test_what_closes_an_alert_is_sent_although_it_is_not_in_events(kind):
    with Webhook(status=202) as api:
        for event in ("started", "finished", "restored"):
            told(kind, event, host=api.base, events=("stranded",))
        assert told("webhook", "finished", api.url, events=("stranded",)) == []
    assert len(api.got) == 2


def test_mail_goes_through_apprise_to_a_real_smtp_server():
    with Mailbox() as box:
        assert told("apprise", "waiting", box.url) == ["apprise people was told (waiting)"]
        box.wait(1)
    ((sender, receivers, text),) = box.got
    assert (sender, receivers) == ("bluegreen@shop.test", ["oncall@shop.test"])
    mail = message_from_string(text)
    assert "shop: waiting" in mail["Subject"]
    assert "error_rate is 50 %" in "".join(
        part.get_payload(decode=True).decode() for part in mail.walk() if not part.is_multipart()
    )


@pytest.mark.parametrize(("event", "shown"), [("stranded", "failure"), ("waiting", "warning"), ("finished", "info")])
def test_json_goes_through_apprise_with_its_kind_of_message(event, shown):
    with Webhook() as hook:
        assert told("apprise", event, hook.url.replace("http:", "json:")) == [f"apprise people was told ({event})"]
    (got,) = hook.got
    # Apprise's own key ``type`` stands over the content type here.
    assert (got["path"], got["type"]) == (f"/services/{SECRET}", shown)
    assert (got["title"], got["message"].splitlines()[1]) == (f"shop: {event}", LINK)
    assert "live is blue (1)" in got["message"]


def test_slack_is_one_apprise_url(monkeypatch):
    """Such a URL names no host: the rig stands where Slack's address is looked up, and answers as Slack does."""
    from apprise.plugins.slack import NotifySlack

    with Webhook(text="ok") as slack:
        monkeypatch.setattr(NotifySlack, "webhook_url", f"{slack.base}/services")
        said = told("apprise", "stranded", "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/")
    assert said == ["apprise people was told (stranded)"]
    (got,) = slack.got
    assert got["path"] == "/services/T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ"
    assert "shop: stranded" in str(got["attachments"])


@pytest.mark.parametrize(
    ("password", "line"),
    [
        (f"nonsense://{SECRET}", "was not told: the connection's password is no URL that Apprise knows"),
        ("", "was not told: the connection's password is no URL that Apprise knows"),
        (f"json://127.0.0.1:1/{SECRET}", "was not told: Apprise could not send it"),
    ],
)
def test_apprise_in_trouble_is_one_line(password, line, caplog):
    caplog.set_level("DEBUG")
    (said,) = told("apprise", password=password)
    assert line in said
    assert SECRET not in caplog.text


def test_without_apprise_the_line_says_what_to_install(monkeypatch):
    real = builtins.__import__

    def none(name, *args, **kwargs):
        if name == "apprise":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", none)
    (said,) = told("apprise", password="json://x")  # noqa: S106 - it is none
    assert "pip install 'airflow-blue-green[apprise]'" in said


def test_apprise_follows_no_redirect_with_the_secret():
    with Webhook() as elsewhere, Webhook(status=307, headers={"Location": elsewhere.url}) as hook:
        (said,) = told("apprise", password=hook.url.replace("http:", "json:"))
    assert "was not told" in said
    assert elsewhere.got == []
