"""Every DAG of the project parses, is tagged and owned, and has the shape that holds under faults."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
SHOP = yaml.safe_load((ROOT / "include/services/shop.yaml").read_text())


@pytest.fixture
def bag(monkeypatch):
    monkeypatch.setenv("BLUEGREEN_SERVICES", str(ROOT / "include/services"))
    return parsed()


def parsed():
    from airflow.dag_processing.dagbag import DagBag

    return DagBag(dag_folder=str(ROOT / "dags"))


def services(folder: Path, **files: dict) -> None:
    for name, changes in files.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(SHOP | {"service": name} | changes))


def test_there_are_no_import_errors(bag):
    assert bag.import_errors == {}
    assert set(bag.dags) == {"release__shop", "rollback__shop", "retire__shop", "guardian"}


def test_every_dag_is_tagged_and_owned_and_described(bag):
    for dag in bag.dags.values():
        assert dag.tags
        assert dag.doc_md
        assert all(task.owner for task in dag.tasks)
        assert [task.task_id for task in dag.tasks if not task.doc_md] == []


def test_the_steps_stand_in_their_order(bag):
    dag = bag.dags["release__shop"]
    assert [task.task_id for task in dag.tasks] == [
        "plan", "deploy", "prewarm", "smoke", "canary_1", "canary_1_watch", "switch", "watch",
        "outcome", "finish", "keep_old", "rollback", "safe", "verdict",
    ]  # fmt: skip


def test_the_teardowns_have_no_setups_and_only_the_verdict_decides_the_state(bag):
    dag = bag.dags["release__shop"]
    safe, verdict = dag.get_task("safe"), dag.get_task("verdict")
    assert (safe.is_teardown, safe.on_failure_fail_dagrun) == (True, False)
    assert (verdict.is_teardown, verdict.on_failure_fail_dagrun) == (True, True)
    assert verdict.upstream_task_ids == {"safe", "keep_old"}
    assert not any(task.is_setup for task in dag.tasks)
    assert dag.dagrun_timeout is None  # it would skip the teardowns


def test_what_starts_the_retire_decides_no_state(bag):
    """Airflow takes a run's state from its last tasks, and from no teardown but the verdict."""
    dag = bag.dags["release__shop"]
    assert dag.get_task("keep_old").downstream_task_ids == {"verdict"}
    assert "keep_old" in dag.get_task("finish").downstream_task_ids


def test_a_retire_takes_no_slot_of_the_way_back(bag):
    assert bag.dags["retire__shop"].get_task("retire").pool == "default_pool"
    assert bag.dags["retire__shop"].max_active_runs == 1


def test_every_task_of_the_way_back_has_its_own_pool_and_the_highest_priority(bag):
    tasks = [bag.dags["release__shop"].get_task(t) for t in ("outcome", "rollback", "safe", "verdict")]
    tasks += [bag.dags["rollback__shop"].get_task("rollback"), bag.dags["guardian"].get_task("guard")]
    assert {task.pool for task in tasks} == {"bluegreen_way_back"}
    forward = max(task.priority_weight for task in bag.dags["release__shop"].tasks if task.pool == "default_pool")
    assert all(task.priority_weight > forward for task in tasks)


def test_one_broken_file_is_an_import_error_of_its_own_and_takes_no_other_dag_away(tmp_path, monkeypatch):
    monkeypatch.setenv("BLUEGREEN_SERVICES", str(tmp_path))
    services(tmp_path, good={}, bad={"entry": {"url": "http://x", "colour_header": "X"}})
    bag = parsed()
    assert set(bag.dags) == {"release__good", "rollback__good", "retire__good", "guardian"}
    (file, error), *others = bag.import_errors.items()
    assert file.endswith("catalog_errors.py")
    assert not others
    assert "bad.yaml" in error
    assert "colour_header" in error


def test_while_a_task_runs_only_its_own_service_is_read(tmp_path, monkeypatch):
    monkeypatch.setenv("BLUEGREEN_SERVICES", str(tmp_path))
    services(tmp_path, good={}, bad={"nonsense": 1})
    for kind in ("release", "rollback", "retire"):
        monkeypatch.setenv("_AIRFLOW_PARSING_CONTEXT_DAG_ID", f"{kind}__good")
        bag = parsed()
        assert f"{kind}__good" in bag.dags
        assert bag.import_errors == {}


def test_canary_steps_become_pairs_of_shift_and_watch(tmp_path, monkeypatch):
    monkeypatch.setenv("BLUEGREEN_SERVICES", str(tmp_path))
    services(
        tmp_path, three={"release": {"canary": [{"share": s} for s in (1, 10, 50)]}}, none={"release": {"canary": []}}
    )
    bag = parsed()
    assert bag.dags["release__three"].has_task("canary_3_watch")
    assert bag.dags["release__three"].get_task("switch").watches == [
        "canary_1_watch",
        "canary_2_watch",
        "canary_3_watch",
    ]
    assert bag.dags["release__none"].get_task("switch").upstream_task_ids == {"smoke"}


def test_an_operator_of_the_wrong_router_type_is_refused_by_name():
    from bluegreen.core.errors import ReleaseRefused
    from bluegreen.operators.traffic import HAProxyTrafficOperator

    class OtherTrafficOperator(HAProxyTrafficOperator):
        router_type = "nginx"

    operator = OtherTrafficOperator(task_id="x", service="shop")
    ports = type("P", (), {"service": type("S", (), {"router": type("R", (), {"type": "haproxy"})}), "name": "shop"})
    with pytest.raises(ReleaseRefused, match="router is haproxy, this operator is for nginx"):
        operator._right_router(ports)


def test_every_router_type_has_an_operator():
    from bluegreen.operators import traffic
    from bluegreen.routers.registry import ROUTERS

    kinds = {kind.router_type for kind in traffic.TrafficOperator.__subclasses__()}
    assert kinds - {"nginx"} >= set(ROUTERS) - {"nginx"}
    assert set(ROUTERS) <= kinds


def test_airflows_own_plugin_loader_leaves_no_bare_modules():
    """Without plugins/.airflowignore it would import each file under its bare stem and hide installed packages."""
    probe = (
        "import sys; from airflow.plugins_manager import get_plugin_info; get_plugin_info();"
        "from pathlib import Path;"
        "stems={p.stem for p in Path('plugins/bluegreen').rglob('*.py')};"
        "bare=[n for n in stems if n in sys.modules and 'plugins/bluegreen' in str(getattr(sys.modules[n],'__file__',''))];"
        "print('BARE', sorted(bare)); print('PLUGIN', 'bluegreen_plugin' in sys.modules or any('bluegreen_plugin' in n for n in sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", probe], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert "BARE []" in done.stdout, done.stdout + done.stderr
    assert "PLUGIN True" in done.stdout, done.stdout + done.stderr


ASKING = {"approvals": {"before_canary": {"by": ["bob", "team-lead"]}, "before_switch": {"deadline": "20m"}}}


def test_people_are_asked_where_the_service_file_says_so_and_nowhere_else(tmp_path, monkeypatch):
    monkeypatch.setenv("BLUEGREEN_SERVICES", str(tmp_path))
    services(
        tmp_path,
        asked={"release": ASKING},
        whole={"release": ASKING | {"canary": []}},
        switch={"release": {"approvals": {"before_switch": {}}}},
    )
    dags = parsed().dags
    assert [task.task_id for task in dags["release__asked"].tasks][3:12] == [
        "smoke", "approve_canary", "canary_1", "canary_1_watch", "hold", "approve_switch", "switch", "watch", "outcome",
    ]  # fmt: skip
    assert [task.task_id for task in dags["release__whole"].tasks][3:7] == [
        "smoke", "approve_canary", "approve_switch", "switch",
    ]  # fmt: skip
    assert not dags["release__switch"].has_task("approve_canary")
    assert dags["release__asked"].get_task("switch").after[-1] == "hold"
    assert "Asked before the canary: bob, team-lead, for 1h." in dags["release__asked"].doc_md
    assert "Asked before the full switch: anybody, for 20m." in dags["release__asked"].doc_md
    assert "approve" not in str(dags["release__asked"].params["skip"])


def test_an_approval_is_tried_again_when_airflow_loses_its_answer_and_nothing_follows_one_that_failed(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("BLUEGREEN_SERVICES", str(tmp_path))
    services(tmp_path, asked={"release": ASKING})
    dag = parsed().dags["release__asked"]
    for task in (dag.get_task("approve_canary"), dag.get_task("approve_switch")):
        assert task.retries == 2
        assert not getattr(task, "inherits_from_skipmixin", False)  # a no must fail: what is skipped lets others run
    assert dag.get_task("canary_1").upstream_task_ids == {"approve_canary"}
    assert dag.get_task("switch").upstream_task_ids == {"approve_switch"}


def test_a_second_run_may_start_only_where_it_is_to_be_refused_or_to_take_over(tmp_path, monkeypatch):
    monkeypatch.setenv("BLUEGREEN_SERVICES", str(tmp_path))
    services(tmp_path, **{kind: {"release": {"concurrent": kind}} for kind in ("queue", "refuse", "supersede")})
    dags = parsed().dags
    runs = {kind: dags[f"release__{kind}"].max_active_runs for kind in ("queue", "refuse", "supersede")}
    assert runs == {"queue": 1, "refuse": 2, "supersede": 2}
