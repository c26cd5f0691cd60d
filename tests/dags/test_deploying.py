"""The operators that deploy for DAGs of one's own: one use case, one kind of deployer each."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from airflow.sdk.exceptions import AirflowFailException

from bluegreen.core.colors import Color
from bluegreen.core.stamp import Phase
from bluegreen.release.adopt import adopt
from tests.dags.test_operators import context
from tests.unit.release.world import World


@pytest.fixture
def world():
    made = World()
    adopt(made.ports(), "tests", "begin", "1")
    return made


def test_it_deploys_to_the_idle_color_and_says_what_is_ready(world, monkeypatch):
    from bluegreen.operators.deploying import IdleDeployOperator

    operator = IdleDeployOperator(task_id="deploy", service="shop", version="2")
    monkeypatch.setattr(IdleDeployOperator, "ports", lambda self: world.ports())
    assert operator.execute(context()) == {"color": Color.GREEN, "version": "2", "ready": 2, "total": 2}
    stamp = world.ports().router.read().stamp
    assert (stamp.phase, stamp.release, world.splits()) == (Phase.SETTLED, "release__shop.run-1@2", {"100/0"})


@pytest.mark.parametrize("kind", ["kubernetes", "helm"])
def test_an_operator_of_another_kind_of_deployer_is_refused_by_name(world, monkeypatch, kind):
    from bluegreen.operators.deploying import HelmDeployOperator, IdleDeployOperator, KubernetesDeployOperator

    made = {"kubernetes": KubernetesDeployOperator, "helm": HelmDeployOperator}[kind]
    monkeypatch.setattr(IdleDeployOperator, "ports", lambda self: world.ports())
    asked = context()
    with pytest.raises(AirflowFailException, match=f"deploy.type is command, this operator is for {kind}"):
        made(task_id="deploy", service="shop", version="2").execute(asked)
    assert asked["ti"].pushed["error"].startswith("shop: ")
    assert world.runs[Color.GREEN] == "0"


def test_service_and_version_may_be_templates():
    from bluegreen.operators.deploying import KubernetesDeployOperator

    operator = KubernetesDeployOperator(
        task_id="deploy", service="{{ params.service }}", version="{{ params.version }}"
    )
    asked = {"params": {"service": "shop", "version": "1.5.0"}} | {"ti": SimpleNamespace()}
    operator.render_template_fields(asked)
    assert (operator.service, operator.version) == ("shop", "1.5.0")


def test_the_example_with_a_step_of_its_own_is_a_dag(pytestconfig):
    from airflow.dag_processing.dagbag import DagBag

    bag = DagBag(dag_folder=str(pytestconfig.rootpath / "include/kubernetes/own_steps.py"))
    assert bag.import_errors == {}
    dag = bag.dags["own_release__shop"]
    assert [task.task_id for task in dag.topological_sort()] == ["deploy", "load_test", "move"]
