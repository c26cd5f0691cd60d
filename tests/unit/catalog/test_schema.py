"""The schema for editors, and the example that is the service of docker-compose.yaml."""

import json
import re
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator

from bluegreen.catalog.load import load_file
from bluegreen.catalog.schema import FIRST_LINE, schema_text, service_schema
from tests.unit.catalog.test_bad_files import GOOD

SERVICES = Path(__file__).parents[3] / "include" / "services"
EXAMPLE = SERVICES / "shop.yaml"


def errors(text):
    return [error.json_path for error in Draft202012Validator(service_schema()).iter_errors(yaml.safe_load(text))]


def test_the_schema_file_is_up_to_date():
    found = (SERVICES / "service.schema.json").read_text(encoding="utf-8")
    assert found == schema_text(), "run: bluegreen schema --out include/services/service.schema.json"


def test_the_example_names_the_schema_in_its_first_line():
    assert EXAMPLE.read_text(encoding="utf-8").splitlines()[0] == FIRST_LINE
    assert FIRST_LINE == "# yaml-language-server: $schema=service.schema.json"


def test_the_example_is_a_good_service():
    service = load_file(EXAMPLE)
    assert [(n.name, n.socket, n.entry) for n in service.router.nodes] == [
        ("lb1", "lb1:9999", "lb1:8080"),
        ("lb2", "lb2:9999", "lb2:8080"),
    ]
    assert str(service.router.nodes[0].map) == "/etc/haproxy/bluegreen/shop.map"
    assert str(service.router.nodes[0].file) == "/opt/airflow/haproxy/lb1/shop.map"


def test_the_example_shows_every_section():
    shown = re.findall(r"^(?:# )?([a-z_]+):(?: |$)", EXAMPLE.read_text(), re.MULTILINE)  # some only as a comment
    assert set(shown) == set(service_schema()["properties"])


def test_the_schema_is_one_and_takes_what_the_loader_takes():
    Draft202012Validator.check_schema(service_schema())
    assert errors(EXAMPLE.read_text()) == []
    assert errors(GOOD) == []


@pytest.mark.parametrize(
    ("good", "bad", "where"),
    [
        ("share: 10", "share: 101", "$.release.canary[0].share"),
        ("socket: lb1", "soket: lb1", "$.router.nodes[0]"),
        ("lease: 60s", "lease: 60", "$.release.lease"),
        ("green: shop-green", "red: shop-red", "$.router.backends"),
        ("  green: {targets: [http://g1]}\n", "", "$.colors"),
        ("type: haproxy", "type: nginx", "$.router"),
    ],
)
def test_the_schema_refuses_what_the_loader_refuses(good, bad, where):
    assert any(path.startswith(where) or where.startswith(path) for path in errors(GOOD.replace(good, bad)))


def test_durations_and_keys_are_told_as_people_write_them():
    release = service_schema()["$defs"]["Release"]["properties"]
    assert release["lease"]["default"] == "1m"
    assert release["lease"]["description"].startswith("how long traffic")
    assert "title" not in release["lease"]
    assert json.loads(schema_text())["properties"]["service"]["pattern"]
