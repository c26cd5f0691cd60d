"""A secret in every place that takes one, and everything broken: it is in no error, no log line, no output, no notice."""

from __future__ import annotations

import json
import logging
import shutil
import tempfile
import traceback
from functools import partial
from pathlib import Path

import pytest
import yaml

from bluegreen.catalog.load import load_file
from bluegreen.checks.sessions import Path as Direction
from bluegreen.checks.sessions import cross, entries
from bluegreen.checks.smoke import smoke
from bluegreen.cli.main import main
from bluegreen.core.colors import Color, Split
from bluegreen.core.env_secrets import EnvironmentSecrets
from bluegreen.core.notice import Notice
from bluegreen.migrations.ports import Phase
from bluegreen.release import migrate
from bluegreen.release.contract import ready
from bluegreen.release.evidence import tried_rules
from bluegreen.release.scratch import try_on_scratch
from bluegreen.release.state import reverse
from bluegreen.release.wiring import ports_for
from demo.processes import free_port
from tests.rigs.postgres import postgres
from tests.rigs.shop_database import BACKFILL
from tests.rigs.sshd import Sshd, missing_sshd
from tests.rigs.webhook import Webhook
from tests.unit.release.world import claimed

HOOKS = {"hook": "webhook", "chat": "apprise", "mail": "apprise", "pager": "pagerduty", "genie": "opsgenie"}
DATABASES = ("main", "copy", "scratch")
PLANTED = {
    name: f"planted-{name}-7f3a91"
    for name in ("entry", "lb", "deploy", "metrics", "mark", "dog", "session", "state", *DATABASES, *HOOKS)
}
BY_DATADOG = {"type": "sequential", "source": "datadog"}


@pytest.fixture
def sshd():
    if reason := missing_sshd():
        pytest.skip(reason)
    folder = Path(tempfile.mkdtemp(prefix="bg-sshd-"))
    folder.chmod(0o755)
    with Sshd(folder / "host") as host:
        host.accept()
        yield host
    shutil.rmtree(folder)


@pytest.fixture
def refusing():
    """A database that asks everybody for a password, and has another one than ours."""
    with postgres() as server:
        (server.data / "pg_hba.conf").write_text("local all all scram-sha-256\n")
        with server.connect() as connection:
            connection.execute("CREATE ROLE root LOGIN PASSWORD 'another'")
            connection.execute("CREATE DATABASE shop")
            connection.execute("SELECT pg_reload_conf()")
        yield server


@pytest.fixture
def service(tmp_path, sshd, refusing, monkeypatch):
    """A service whose every part has a login that does not help."""
    closed = f"http://127.0.0.1:{free_port()}"
    with Webhook(status=500) as answers:
        text = yaml.safe_dump(
            {
                "service": "shop",
                "entry": {"url": answers.url.rpartition("/services")[0], "connection": "entry"},
                "router": {
                    "type": "haproxy",
                    "backends": {"blue": "b", "green": "g"},
                    "nodes": [
                        {
                            "name": "lb1", "socket": "/nowhere.sock", "map": "/nowhere.map",
                            "entry": f"127.0.0.1:{answers.server.server_port}",
                            "ssh": sshd.ssh(connection="lb").model_dump(mode="json"),
                        }
                    ],
                },
                "colors": {color: {"targets": [f"http://127.0.0.1:{free_port()}"]} for color in ("blue", "green")},
                "deploy": {
                    "type": "command",
                    "command": ["sh", "-c", "echo token=$TOKEN; echo $TOKEN >&2; exit 3"],
                    "diagnose": ["sh", "-c", "echo $TOKEN"],
                    "secrets": {"TOKEN": "deploy"},
                    "fence": str(tmp_path / "fence"),
                },
                "smoke": [{"path": "/"}],
                "sessions": {
                    "create": {"path": "/login", "body": "$login:$password", "connection": "session"},
                    "use": {"path": "/me"},
                },
                "state": {
                    "type": "transfer",
                    **{key: ["sh", "-c", "echo $TOKEN; exit 3"] for key in ("transfer", "check", "reverse")},
                    "secrets": {"TOKEN": "state"},
                },
                "migrations": {
                    "database": {"connection": "main", "name": "shop"},
                    "tool": {"type": "sql", "folder": str(tmp_path / "migrations")},
                    "retry_for": "10ms",
                    "behind": [{"name": "outbox", "query": "SELECT 1", "within": "10ms"}],
                    "replica": {"database": {"connection": "copy", "name": "shop"}, "publication": "p", "subscription": "s"},
                    "scratch": {
                        "database": {"connection": "scratch", "name": "shop"},
                        "test": ["sh", "-c", "echo $DATABASE_URL $version; exit 3"],
                    },
                },
                "evidence": {"type": "prometheus", "url": answers.url, "connection": "metrics", "labels": {"c": "$color"}},
                "sources": [
                    {"type": "datadog", "url": answers.url, "connection": "dog", "requests": "$color", "errors": "$color"}
                ],
                "release": {"rules": [{"type": "prometheus", "metric": "error_rate", "max": 5}, BY_DATADOG], "restore_within": "1s"},
                "notify": {
                    "webhook": "hook",
                    "channels": [{"connection": c, "kind": kind} for c, kind in HOOKS.items() if c != "hook"],
                    "markers": [{"type": "grafana", "url": answers.url, "connection": "mark"}],
                },
            }
        )  # fmt: skip
        (tmp_path / "services").mkdir()
        (tmp_path / "migrations").mkdir()
        (tmp_path / "migrations" / "0001_a.expand.sql").write_text("CREATE TABLE a (id int);")
        (tmp_path / "migrations" / "0001_a.backfill.yaml").write_text(BACKFILL)
        (tmp_path / "services" / "shop.yaml").write_text(text)
        for name, secret in PLANTED.items():
            urls = {
                "hook": f"{closed}/{secret}",
                "chat": f"{answers.url}/{secret}".replace("http:", "json:"),
                "mail": f"mailto://{secret}:{secret}@127.0.0.1:{free_port()}?from=a@shop.test&to=b@shop.test",
            }
            host = answers.url if name in ("pager", "genie") else ""
            told = {
                "login": "root",
                "host": refusing.host if name in DATABASES else host,
                "port": refusing.port if name in DATABASES else None,
                "password": urls.get(name, secret),
                "extra": {"private_key_passphrase": secret, "api_key": secret, "app_key": secret},
            }
            monkeypatch.setenv(f"AIRFLOW_CONN_{name.upper()}", json.dumps(told))
        yield load_file(tmp_path / "services" / "shop.yaml")


def database_parts(service, say):
    secrets, of = EnvironmentSecrets(), claimed().release.model_copy(update={"service": service})
    one = service.model_copy(update={"migrations": service.migrations.model_copy(update={"replica": None})})
    lone = of.model_copy(update={"service": one})
    parts = {
        "lint": lambda s: migrate.lint_pending(s, secrets, Phase.EXPAND, say),
        "expand": lambda s: migrate.expand(s, secrets, "run@1", say),
        "execute": lambda s: migrate.execute(s, secrets, Phase.EXPAND, "run@1", say),
        "backfill": lambda s: migrate.backfill(s, secrets, say),
        "caught_up": lambda s: migrate.caught_up(s, secrets, say),
        "contract": lambda s: ready(ports_for(s, secrets, say), secrets),
    }
    made = {
        f"{name} {what}": partial(part, s)
        for name, part in parts.items()
        for what, s in (("two", service), ("one", one))
    }
    return made | {
        "follow": lambda: migrate.follow(of, secrets, say),
        "scratch": lambda: try_on_scratch(lone, secrets, say),
    }


def provoked(service, folder, capfd):
    """Let every part fail, and yield everything that anybody could read of it."""
    said = []
    ports = ports_for(service, EnvironmentSecrets(), said.append)
    notice = Notice("shop", "stranded", "canary", "why", "by", "run", "run@1", "blue", "1", "2", "2026-11-24T12:00:00Z")
    parts = {
        "router": ports.router.read,
        "check": ports.router.check,
        "deploy": lambda: ports.deployer.deploy(Color.GREEN, "2", 1, "run@1"),
        "diagnose": lambda: ports.deployer.diagnose(Color.GREEN),
        "proof": lambda: ports.prove(Split.whole_on(Color.BLUE)),
        "smoke": lambda: smoke(service, Color.GREEN),
        "sessions": lambda: cross(
            service, EnvironmentSecrets(), [Direction(entries(service)[0], Color.BLUE, (), Color.GREEN)]
        ),
        "state": lambda: reverse(
            ports, claimed().release.model_copy(update={"service": service}), EnvironmentSecrets()
        ),
        "rules": lambda: tried_rules(ports, Color.GREEN),
        "channels": ports.tell(notice),
        "back": lambda: ports.replicated.move_back(Color.BLUE, lambda: "moved", lambda: False),
    } | database_parts(service, said.append)
    for name, part in parts.items():
        try:
            yield name, repr(part())
        except Exception as error:  # noqa: BLE001 - whatever it is, it must hold no secret
            yield name, "".join(traceback.format_exception(error))
    yield "log", "\n".join(said)
    for words in (
        ["check", "shop"],
        ["status", "shop"],
        ["diagnose", "shop"],
        ["diagnose", "shop", "--json"],
        ["restore", "shop", "--reason", "x"],
        ["--debug", "guard"],
    ):
        main(["--services", str(folder), *words])
        yield " ".join(words), "".join(capfd.readouterr())


def test_no_planted_secret_is_to_be_read_anywhere(service, tmp_path, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    found = dict(provoked(service, tmp_path / "services", capfd))
    assert "lb1" in found["router"]
    assert "token=***" in found["deploy"]
    assert "broken connection" in found["proof"]
    assert "Prometheus gives no answer" in found["rules"]
    assert "HTTP 500" in found["rules"]
    assert "no session was made through lb1: found broken connection" in found["sessions"]
    assert "state.reverse failed" in found["state"]
    assert "***" in found["state"]
    for name in ("lint one", "expand two", "execute one", "backfill two", "caught_up two", "contract one", "follow"):
        assert "password authentication failed" in found[name], found[name]
    assert found["back"] == "'moved'"
    assert "password authentication failed" in found["log"]
    assert "2: postgresql://root:***@/shop" in found["log"]
    for name, kind in HOOKS.items():
        assert f"{kind} {name} was not told: " in found["log"]
    assert "marker grafana (restore): not taken: it answered 500" in found["log"]
    told = found | {"logging": caplog.text}
    assert {(name, secret) for name, text in told.items() for secret in PLANTED.values() if secret in text} == set()


def test_the_places_are_all_that_take_one(service):
    from bluegreen.catalog.section import connections

    assert connections(service) == set(PLANTED)
