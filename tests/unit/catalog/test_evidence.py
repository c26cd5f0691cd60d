"""Evidence and rules beyond the router's counters: what a file may say, and the one place that tells connections."""

import re
from pathlib import Path

import pytest

from bluegreen.catalog.load import load_file, read_text
from bluegreen.catalog.models import Service
from bluegreen.catalog.section import connections
from tests.unit.catalog.test_bad_files import GOOD, said

SHOP = (Path(__file__).resolve().parents[3] / "include/services/shop.yaml").read_text()
ASKING = GOOD.replace("release:\n", "evidence:\n  type: prometheus\n  url: http://prometheus:9090\nrelease:\n").replace(
    "    - {type: threshold", "    - {type: prometheus, metric: error_rate, max: 5}\n    - {type: threshold"
)
RULE = "{type: prometheus, metric: error_rate, max: 5}"

BAD = {
    "no evidence to ask": (
        "evidence:\n  type: prometheus\n  url: http://prometheus:9090\n",
        "",
        ":26: release: a rule of type prometheus has nothing to ask: add evidence: {type: prometheus, url: …}",
    ),
    "unknown kind of evidence": (
        "  type: prometheus\n",
        "  type: promethes\n",
        ":26: evidence.type: found 'promethes', allowed prometheus; did you mean 'prometheus'?",
    ),
    "no address": (
        "  url: http://prometheus:9090\n",
        "",
        ":26: evidence.url: the key 'url' is missing; add url: its address, without /api/v1, like http://prometheus:9090",
    ),
    "a login in the address": (
        "http://prometheus:9090",
        "http://me:hunter2@prometheus:9090",
        ":28: evidence.url: a secret in a service file; secrets only by connection id",
    ),
    "a misspelt key": (
        "  url: http://prometheus:9090\n",
        "  url: http://prometheus:9090\n  intervall: 10s\n",
        (
            ":29: evidence.intervall: unknown key 'intervall'; did you mean 'interval'? allowed keys: ca_file, connection, "
            "duration, errors, interval, labels, max_age, requests, timeout, type, url"
        ),
    ),
    "labels that tell no color": (
        "  url: http://prometheus:9090\n",
        "  url: http://prometheus:9090\n  labels: {job: shop}\n",
        ":29: evidence.labels: no label has $color in its value: both colors would be judged alike",
    ),
    "no name of a metric": (
        "  url: http://prometheus:9090\n",
        "  url: http://prometheus:9090\n  requests: rate(x[1m])\n",
        ":29: evidence.requests: found 'rate(x[1m])', allowed the name of a Prometheus metric",
    ),
    "neither metric nor query": (
        RULE,
        "{type: prometheus, max: 5}",
        ":34: release.rules[0]: wanted either metric (error_rate, p99_ms) or query: write one of them",
    ),
    "metric and query": (
        RULE,
        "{type: prometheus, metric: p99_ms, name: x, query: x$color, max: 5}",
        ":34: release.rules[0]: wanted either metric (error_rate, p99_ms) or query: write one of them",
    ),
    "unknown metric": (
        "metric: error_rate, max: 5}\n    - {type: thr",
        "metric: p99, max: 5}\n    - {type: thr",
        ":34: release.rules[0].metric: found 'p99', allowed error_rate, p99_ms; did you mean 'p99_ms'?",
    ),
    "a query without a name": (
        RULE,
        "{type: prometheus, query: x$color, max: 5}",
        ":34: release.rules[0]: a query needs a name, by which logs and reports call it: add name",
    ),
    "a query for both colors": (
        RULE,
        "{type: prometheus, name: queue, query: sum(queue_length), max: 5}",
        ":34: release.rules[0]: the query does not say $color: both colors would be judged alike",
    ),
    "no bound": (
        RULE,
        "{type: prometheus, metric: error_rate}",
        ":34: release.rules[0]: there is no bound: add max, or min",
    ),
    "bounds that cross": (
        RULE,
        "{type: prometheus, metric: error_rate, max: 1, min: 2}",
        ":34: release.rules[0]: min 2 is above max 1",
    ),
    "a bound that is no number": (
        RULE,
        RULE.replace("5", ".nan"),
        ":34: release.rules[0].max: found .nan, wanted a number",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_section_says_what_to_do(tmp_path, name):
    good, bad, sentence = BAD[name]
    assert ASKING.count(good) == 1, "the case no longer fits the good file"
    (found,) = said(tmp_path, ASKING.replace(good, bad))
    assert found.startswith(sentence) if name.startswith(("a login", "a bound")) else found == sentence


def test_the_password_of_an_address_is_not_shown(tmp_path):
    assert "hunter2" not in "".join(said(tmp_path, ASKING.replace("http://prom", "http://me:hunter2@prom")))


def test_the_defaults_are_the_guides(tmp_path):
    service = read_text(ASKING, tmp_path / "shop.yaml")
    told = service.evidence
    assert (told.requests, told.errors, told.duration) == (
        "http_requests_total",
        'status=~"5.."',
        "http_request_duration_seconds",
    )
    assert (told.labels, told.interval.total_seconds()) == ({"environment": "$color"}, 10)
    assert service.release.watch.total_seconds() == 300
    assert service.release.rules[0].window.total_seconds() == 60


def test_a_frozen_service_keeps_its_evidence(tmp_path):
    service = read_text(ASKING, tmp_path / "shop.yaml")
    assert Service.model_validate(service.frozen()) == service


def test_what_the_example_shows_in_comments_is_sound(tmp_path):
    """Each optional part of shop.yaml that is commented out, written in."""
    evidence = re.search(r"^# evidence:\n(?:#  .*\n)+", SHOP, re.MULTILINE).group()
    rules = re.search(r"^    # - type: prometheus.*\n(?:    # .*\n)+", SHOP, re.MULTILINE).group()
    text = SHOP.replace(evidence, evidence.replace("# ", "", 1).replace("\n# ", "\n"))
    text = text.replace(rules, rules.replace("    # ", "    "))
    (tmp_path / "shop.yaml").write_text(text)
    service = load_file(tmp_path / "shop.yaml")
    assert service.evidence.connection == "prometheus"
    assert [rule.says for rule in service.release.rules[3:]] == [
        "error_rate by Prometheus",
        "p99_ms by Prometheus",
        "orders a minute",
    ]


def test_every_connection_that_a_service_names_is_found_wherever_it_stands(tmp_path):
    text = ASKING.replace("  url: http://lb1:8080", "  url: http://lb1:8080\n  connection: entry_login")
    text = text.replace("9090\n", "9090\n  connection: metrics\n")
    text = text.replace("[deploy.sh]", "[deploy.sh]\n  secrets: {TOKEN: registry, OTHER: vault.one}")
    service = read_text(text, tmp_path / "shop.yaml")
    assert connections(service) == {"entry_login", "metrics", "registry", "vault.one"}
    assert connections(Service.model_validate(service.frozen())) == connections(service)
    assert connections(read_text(GOOD, tmp_path / "shop.yaml")) == frozenset()
