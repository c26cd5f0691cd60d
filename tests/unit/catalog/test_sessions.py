"""The sections about sessions and state: what the example shows is sound, and what may be wrong with one is said."""

import re
from pathlib import Path

import pytest

from bluegreen.catalog.load import read_text
from bluegreen.catalog.models import Service
from bluegreen.catalog.section import connections
from bluegreen.core.errors import CatalogError
from tests.unit.catalog.test_bad_files import GOOD

SHOP = (Path(__file__).resolve().parents[3] / "include/services/shop.yaml").read_text()
SESSIONS = GOOD + "sessions:\n  create: {path: /login, body: $password, connection: one}\n  use: {path: /me}\n"
STATE = GOOD + "state: {type: transfer, transfer: [a], check: [b], reverse: [c]}\n"


def test_what_the_example_shows_in_comments_is_sound(tmp_path):
    for section in ("sessions", "state"):
        block = re.search(rf"^# {section}:\n(?:#  .*\n)+", SHOP, re.MULTILINE).group()
        inner = re.sub(
            r"^( *)# (?=( *)[a-zA-Z_]+:)", r"\1", re.sub("^# ", "", block, flags=re.MULTILINE), flags=re.MULTILINE
        )
        service = read_text(SHOP.replace(block, inner), tmp_path / "shop.yaml")
        assert getattr(service, section)
        assert Service.model_validate(service.frozen()) == service
        assert connections(service) == {"sessions": {"shop_tester"}, "state": {"shop_state"}}[section]


@pytest.mark.parametrize(
    ("good", "bad", "says"),
    [
        (", connection: one", "", "sessions.create: the body says $login or $password: give connection, whose they are"),
        ("body: $password, ", "", "sessions.create: connection is given, but the body says neither $login nor $password"),
        ("/me}", "/me}\n  lost: allow", "sessions: lost: allow has no reason; give reason: it stands in the report"),
        ("one}", "one, bearer: {find: '[('}}", "sessions.create.bearer.find: found '[(', wanted a JMESPath, like access_token"),
        ("one}", "one, bearer: {find: a, value: Bearer}}", "sessions.create.bearer.value: found 'Bearer', does not say $token: no session would be sent"),
        ("one}", "one, bearer: {find: a, header: 'A b'}}", "sessions.create.bearer.header: found 'A b', allowed a text like Author"),
        ("$password", '"{\\"password\\": \\"hunter2\\"}"', "sessions.create: a password stands in the body; write $password, and"),
        ("$password", "user=a&passwd=hunter2", "sessions.create: a password stands in the body"),
        ("path: /login", "path: login", "sessions.create.path: found 'login', allowed a path that begins with /"),
    ],
)  # fmt: skip
def test_a_wrong_section_is_told(tmp_path, good, bad, says):
    assert good in SESSIONS
    with pytest.raises(CatalogError) as error:
        read_text(SESSIONS.replace(good, bad), tmp_path / "shop.yaml")
    assert says in str(error.value)


@pytest.mark.parametrize(
    ("good", "bad", "says"),
    [
        (", reverse: [c]", "", "state.reverse: the key 'reverse' is missing"),
        ("type: transfer, ", "", "state"),
        ("{type: transfer, transfer: [a], check: [b], reverse: [c]}", "{type: stateless}", "state.reason: the key 'reason' is missing"),
    ],
)  # fmt: skip
def test_state_that_is_half_told_is_refused(tmp_path, good, bad, says):
    with pytest.raises(CatalogError) as error:
        read_text(STATE.replace(good, bad), tmp_path / "shop.yaml")
    assert says in str(error.value)
