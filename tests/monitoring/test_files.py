"""What stands in ``include/monitoring``, held by the tools that will read it: promtool, amtool, and our own generator."""

from __future__ import annotations

import configparser
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from airflow.configuration import conf

from demo.haproxy import check_config, haproxy_binary
from tools.dashboards import FOLDER, dashboards

MONITORING = FOLDER.parent
HERE = Path(__file__).parent
PROMTOOL, AMTOOL = shutil.which("promtool"), shutil.which("amtool")
needs_promtool = pytest.mark.skipif(PROMTOOL is None, reason="no promtool here: apt-get install prometheus")
needs_amtool = pytest.mark.skipif(AMTOOL is None, reason="no amtool here: apt-get install prometheus-alertmanager")
INTERVAL, SERVICE = "$__rate_interval", "$service"


def run(*command):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def expressions(interval="1m"):
    """Every panel's queries, with Grafana's variables filled in, as {dashboard: panel: letter: PromQL}."""
    for name in dashboards():
        for panel in json.loads((FOLDER / name).read_text())["panels"]:
            for target in panel["targets"]:
                expr = target["expr"].replace(INTERVAL, interval).replace(SERVICE, "shop")
                assert "$" not in expr
                yield f"{name}: {panel['title']}: {target['refId']}", expr


def alerts():
    return [
        rule
        for group in yaml.safe_load((MONITORING / "rules/alerts.yml").read_text())["groups"]
        for rule in group["rules"]
    ]


@needs_promtool
def test_promtool_takes_the_configuration_and_its_rules():
    assert "SUCCESS" in run(PROMTOOL, "check", "config", MONITORING / "prometheus.yml")


@needs_promtool
def test_promtools_own_tests_of_the_rules_pass():
    assert "SUCCESS" in run(PROMTOOL, "test", "rules", HERE / "alerts_test.yml")


def test_each_alert_is_tested_to_fire_and_to_be_silent():
    cases = yaml.safe_load((HERE / "alerts_test.yml").read_text())["tests"]
    told = [case for test in cases for case in test.get("alert_rule_test", [])]
    names = {alert["alert"] for alert in alerts()}
    assert {case["alertname"] for case in told if case.get("exp_alerts")} == names
    assert {case["alertname"] for case in cases[0]["alert_rule_test"]} == names
    assert not any(case.get("exp_alerts") for case in cases[0]["alert_rule_test"])


def test_each_alert_has_a_place_in_the_docs_and_a_severity_that_is_routed():
    titles = re.findall(r"^### (\w+)$", (MONITORING.parents[1] / "docs/monitoring.md").read_text(), re.MULTILINE)
    assert sorted(titles) == sorted(alert["alert"] for alert in alerts())
    for alert in alerts():
        assert alert["annotations"]["runbook"] == f"docs/monitoring.md#{alert['alert'].lower()}"
        assert alert["labels"]["severity"] in ("page", "ticket")


def block(kind):
    text = (MONITORING.parents[1] / "docs/monitoring.md").read_text()
    return re.search(rf"^```{kind}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)[1]


@pytest.mark.haproxy
def test_real_haproxy_takes_the_exporter_of_the_docs(tmp_path):
    (tmp_path / "haproxy.cfg").write_text(block("haproxy"))
    check_config(haproxy_binary(), tmp_path / "haproxy.cfg")


def test_airflow_knows_each_key_of_the_docs():
    told = configparser.ConfigParser()
    told.read_string(block("ini"))
    assert set(told["metrics"]) <= set(conf.configuration_description["metrics"]["options"])


@needs_amtool
def test_amtool_takes_the_routes():
    assert "SUCCESS" in run(AMTOOL, "check-config", MONITORING / "alertmanager.yml")


@needs_amtool
@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: alert["alert"])
def test_what_pages_reaches_people_and_what_waits_only_the_team(alert):
    labels = {"alertname": alert["alert"], "service": "shop", **alert["labels"]}
    receivers = {"page": "on-call,team", "ticket": "team"}[alert["labels"]["severity"]]
    told = [f"{name}={value}" for name, value in labels.items()]
    configured = f"--config.file={MONITORING}/alertmanager.yml"
    run(AMTOOL, "config", "routes", "test", configured, f"--verify.receivers={receivers}", *told)


def test_the_alerts_that_silence_others_and_those_that_are_silenced_exist():
    rules = yaml.safe_load((MONITORING / "alertmanager.yml").read_text())["inhibit_rules"]
    matchers = [text for rule in rules for text in (*rule["source_matchers"], *rule["target_matchers"])]
    named = {name for text in matchers for name in re.search(r'"(.*)"', text)[1].split("|")}
    assert named < {alert["alert"] for alert in alerts()}


def test_the_dashboards_are_what_the_generator_writes():
    found = {path.name: path.read_text() for path in FOLDER.glob("*.json")}
    assert found == dashboards(), "run: make dashboards"


@needs_promtool
def test_promtool_understands_each_panel(tmp_path):
    rules = [{"record": f"panel:number{n}", "expr": expr} for n, (_, expr) in enumerate(expressions())]
    (tmp_path / "panels.yml").write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    assert f"{len(rules)} rules found" in run(PROMTOOL, "check", "rules", tmp_path / "panels.yml")
    assert len(rules) >= 20


def test_the_guides_two_panels_are_there_and_what_a_release_needs():
    titles = {panel["title"] for panel in json.loads((FOLDER / "service.json").read_text())["panels"]}
    guides = {"Request rate by color", "Error rate"}
    assert guides | {"Traffic split", "Response time", "Connections by color", "Drain of the old color"} <= titles
    for name in dashboards():
        (lines,) = json.loads((FOLDER / name).read_text())["annotations"]["list"]
        assert lines["target"]["tags"] == ["bluegreen"]


def test_the_exporters_mapping_names_every_metric_that_rules_and_panels_ask_for():
    source = (MONITORING.parents[1] / "plugins/bluegreen/metrics.py").read_text()
    emitted = {(kind, name) for kind, name in re.findall(r'_(count|gauge|time)\(\s*"(\w+)"', source)}
    ending = {"count": "_total", "gauge": "", "time": "_bucket"}
    known = {f"bluegreen_{name}{ending[kind]}" for kind, name in emitted}
    asked = " ".join([*(expr for _, expr in expressions()), *(alert["expr"] for alert in alerts())])
    assert set(re.findall(r"\bbluegreen_\w+", asked)) <= known
    mappings = yaml.safe_load((MONITORING / "statsd-mapping.yml").read_text())["mappings"]
    special = [set(re.search(r"\((.*)\)", each["match"])[1].split("|")) for each in mappings[:2]]
    assert special == [{n for k, n in emitted if k == kind} for kind in ("gauge", "time")]
