"""`bluegreen watch`: a report's evidence judged again, and what a service's rules would detect."""

from __future__ import annotations

import json

import pytest

from bluegreen.cli.main import main
from tests.unit.analysis.test_replay import watch

SHOP = """
service: shop
entry: {url: "http://shop.example"}
router:
  type: haproxy
  backends: {blue: shop-blue, green: shop-green}
  nodes: [{name: one, socket: /nowhere, map: /nowhere.map, entry: "127.0.0.1:1"}]
colors:
  blue: {targets: ["http://127.0.0.1:2"]}
  green: {targets: ["http://127.0.0.1:3"]}
deploy: {type: command, command: ["true"]}
release:
  canary: [{share: 10, watch: 60s}]
  watch: 10s
  rules: [{type: sequential}]
"""


@pytest.fixture
def report(tmp_path):
    """Write a report with one watch, as a release leaves it."""

    def write(failing=10, **more):
        found, evidence, _ = watch(failing)
        told = {"step": "canary_1_watch", "says": str(found.says), "reason": found.reason, "evidence": evidence}
        path = tmp_path / "run.json"
        path.write_text(json.dumps({"watches": [told | {"rules": found.numbers["rules"]} | more]}))
        return path

    return write


@pytest.mark.parametrize(("failing", "says"), [(0, "healthy"), (10, "unhealthy")])
def test_replay_prints_the_same_verdict(report, capsys, failing, says):
    assert main(["watch", "replay", str(report(failing))]) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"canary_1_watch: {says} after ")
    assert said.rstrip().endswith("the same verdict")


def test_replay_tells_of_a_verdict_that_the_evidence_does_not_give(report, capsys):
    assert main(["watch", "replay", str(report(10, says="healthy"))]) == 1
    assert "ANOTHER VERDICT: the watch said healthy" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("no json", "is no report of a release"),
        ("[]", "is no report of a release"),
        ('{"watches": []}', "holds no watch with evidence"),
        (
            '{"watches": [{"step": "w", "says": "healthy", "rules": [], "evidence": {}}]}',
            "the evidence of w is not whole",
        ),
    ],
)
def test_what_is_no_report_is_refused_in_one_line(tmp_path, capsys, text, said):
    path = tmp_path / "x.json"
    path.write_text(text)
    assert main(["watch", "replay", str(path)]) == 2
    error = capsys.readouterr().err
    assert f"{path}" in error
    assert said in error
    assert error.count("\n") == 1


def test_simulate_tells_what_would_be_detected(tmp_path, capsys):
    (tmp_path / "shop.yaml").write_text(SHOP)
    words = ["--services", str(tmp_path), "watch", "simulate", "shop", "--rps", "100", "--runs", "20", "--json"]
    assert main(words) == 0
    rows = {(row["watch"], row["candidate"]): row for row in json.loads(capsys.readouterr().out)}
    assert rows["10 % for 60 s", 100.0]["stopped"] == rows["all for 10 s", 100.0]["stopped"] == 1
    assert rows["10 % for 60 s", 0.5]["stopped"] <= 0.2
    assert rows["10 % for 60 s", 100.0]["detected_s_p50"] <= 2


@pytest.mark.parametrize("words", [["--rps", "0"], ["--rps", "1e9"], ["--baseline", "100"], ["--runs", "0"]])
def test_numbers_that_cannot_be_are_refused(tmp_path, capsys, words):
    (tmp_path / "shop.yaml").write_text(SHOP)
    assert main(["--services", str(tmp_path), "watch", "simulate", "shop", *words]) == 2
    assert f"Invalid value for {words[0]}" in capsys.readouterr().err


def test_a_router_that_does_not_count_now_needs_the_number(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("bluegreen.cli.watch.LISTEN", 0.0)
    (tmp_path / "shop.yaml").write_text(SHOP)
    assert main(["--services", str(tmp_path), "watch", "simulate", "shop"]) != 0
    assert "say how many: --rps 100" in capsys.readouterr().err
