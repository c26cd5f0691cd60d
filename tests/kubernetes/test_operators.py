"""Airflow's operators on the real control plane, with a service file and connections as people write them; kubectl sees what they did."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

import tests.dags.conftest  # noqa: F401 - Airflow in a home of its own
from bluegreen.catalog.models import Service
from bluegreen.core.colors import Color
from bluegreen.release.adopt import adopt
from bluegreen.release.wiring import ports_for
from demo.kubernetes.namespace import service
from demo.kubernetes.roles import FOLDER, account_of, shipped
from demo.processes import wait_until
from tests.dags.test_operators import context
from tests.kubernetes.steps import seen, share_in
from tests.rigs import kube_deploy, kube_node
from tests.rigs.deploy_targets import make_service

pytestmark = pytest.mark.kubernetes


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Write a service file and its connection, and adopt the service; return its ports."""

    def write(made: Service, connection: str, config: dict[str, Any]) -> Any:
        (tmp_path / "shop.yaml").write_text(yaml.safe_dump(made.model_dump(mode="json", exclude_unset=True)))
        monkeypatch.setenv("BLUEGREEN_SERVICES", str(tmp_path))
        told = {"conn_type": "kubernetes", "extra": {"kube_config": yaml.safe_dump(config)}}
        monkeypatch.setenv(f"AIRFLOW_CONN_{connection.upper()}", json.dumps(told))
        from bluegreen.edge import connection_secrets

        ports = ports_for(made, connection_secrets)
        adopt(ports, "tests", "begin", "1")
        return ports

    return write


def operator_of(kind: str) -> Any:
    from bluegreen.operators import traffic

    kinds = {one.router_type: one for one in traffic.TrafficOperator.__subclasses__()}
    return kinds[kind]


@pytest.fixture
def shop_of(rig: Any, written: Any) -> Any:
    """The rig's first node as the service ``shop``, behind a real entry."""
    if "traffic" not in rig.can:
        pytest.skip(rig.no_traffic())
    written(rig.through_entry(), "one", rig.configs[0])
    return rig


def stamp_in(found: Any) -> dict[str, str]:
    return json.loads(found["metadata"]["annotations"]["bluegreen.dev/stamp"])


def test_each_kinds_operator_moves_a_part_and_then_all_and_says_what_it_cost(shop_of: Any) -> None:
    rig = shop_of
    for task, share, phase in (("some", 10, "canary"), ("all", 100, "settled")):
        done = operator_of(rig.name)(task_id=task, service="shop", to="green", share=share).execute(context())
        assert (done["proof"]["says"] == "proven", done["calls"]["patch"] > 0) == (True, True), done
        wait_until(lambda share=share: share_in(rig, seen(rig)) == share, 20, "pods that end to be gone")
        stamp = stamp_in(seen(rig))
        assert (stamp["phase"], stamp["split"], stamp["step"]) == (phase, f"{100 - share}/{share}", task)
        assert stamp["release"].startswith("release__shop.run-1@")


def test_what_may_not_be_written_fails_the_task_with_the_rule_that_is_missing(shop_of: Any) -> None:
    from airflow.sdk.exceptions import AirflowFailException

    rig, asked = shop_of, context()
    before = seen(rig)
    rig.refuse_writes(0)
    rule = rf'resources: \["{rig.resource()}"\], verbs: \["patch"\]'
    with pytest.raises(AirflowFailException, match=rf"may not patch {rig.resource()}/shop .*{rule}"):
        operator_of(rig.name)(task_id="all", service="shop").execute(asked)
    assert asked["ti"].pushed["error"].startswith("shop: ")
    assert (share_in(rig, seen(rig)), stamp_in(seen(rig))) == (0, stamp_in(before))


def test_another_kinds_operator_and_a_color_without_a_ready_pod_are_refused(shop_of: Any) -> None:
    from airflow.sdk.exceptions import AirflowException

    rig, before = shop_of, seen(shop_of)
    other = "istio" if rig.name == "gateway_api" else "gateway_api"
    with pytest.raises(AirflowException, match=f"router is {rig.name}, this operator is for {other}; use Traffic"):
        operator_of(other)(task_id="all", service="shop").execute(context())
    rig.drain(Color.GREEN)
    with pytest.raises(AirflowException, match="shop: green: has no healthy server; nothing was moved"):
        operator_of(rig.name)(task_id="all", service="shop").execute(context())
    assert (share_in(rig, seen(rig)), stamp_in(seen(rig))) == (0, stamp_in(before))


def test_the_operator_of_charts_upgrades_the_idle_colors_release(
    written: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from airflow.sdk.exceptions import AirflowException

    from bluegreen.operators.deploying import HelmDeployOperator

    if reason := kube_deploy.missing_helm():
        pytest.skip(reason)
    with kube_deploy.helm_rig(tmp_path, roles=None, ready_within="15s") as rig:
        shop, connection = rig.namespace, kube_deploy.CONNECTION
        shop.apply(
            service("shop", color="blue", part="web"), *shipped(shop, kube_deploy.ACCOUNT, "router-service.yaml")
        )
        node = {"name": "eu", "connection": connection, "namespace": shop.name, "entry": "127.0.0.1:1"}
        router = {"type": "kube_service", "nodes": [node], "service": "shop"}
        more = {"router": router, "release": {"canary": []}}
        made = Service.model_validate(rig.service.model_dump(mode="json", exclude_unset=True) | more)
        written(made, connection, rig.account.config())
        monkeypatch.setenv("AIRFLOW_CONN_SHOP_PASSWORD", json.dumps({"conn_type": "http", "password": "p"}))
        done = HelmDeployOperator(task_id="deploy", service="shop", version="2").execute(context())
        assert (done["color"], done["version"], done["ready"]) == ("green", "2", 2)
        assert (image_of(shop, "shop-green"), rig.history(Color.GREEN)[-1]["status"]) == ("shop:2", "deployed")
        with pytest.raises(AirflowException, match=r"ImagePullBackOff(?s:.*)Helm took back what failed"):
            HelmDeployOperator(task_id="again", service="shop", version="missing").execute(context())
        assert (image_of(shop, "shop-green"), rig.history(Color.GREEN)[-1]["status"]) == ("shop:2", "deployed")


# A DAG of one's own, as it is shipped


@pytest.fixture
def own(plane: Any, written: Any, pytestconfig: pytest.Config) -> Any:
    """The namespace ``shop``, what gives a task of ``own_steps.py`` anew, and an account that may what the shipped Roles say."""
    from airflow.dag_processing.dagbag import DagBag

    if reason := kube_node.missing():
        pytest.skip(reason)
    node = kube_node.shared_node()
    files = ("router-service.yaml", "deployer.yaml", "deployer-pods.yaml")
    with plane.namespace("shop") as shop:
        for color in Color:
            shop.apply(kube_deploy.web(color), service(f"shop-{color}", color=str(color), part="web"))
        shop.apply(service("shop", color="blue", part="web"))
        for color in Color:
            shop.wait_ready(f"shop-{color}", 2)
        host, port = node.net.address(shop, "shop")
        nodes = [{"name": "eu", "connection": "prod_eu", "namespace": "shop", "entry": f"{host}:{port}"}]
        made = make_service(
            {color: [f"http://{node.net.address(shop, f'shop-{color}')[0]}"] for color in Color},
            kube_deploy.section(shop, roles=None, cluster={"connection": "prod_eu", "namespace": "shop"}),
            router={"type": "kube_service", "nodes": nodes, "service": "shop"},
            release={"canary": []},
        )
        written(made, "prod_eu", account_of(shop, "bluegreen-deployer", *files, service="shop").config())
        file = str(pytestconfig.rootpath / "include/kubernetes/own_steps.py")

        def anew(task: str) -> Any:
            return DagBag(dag_folder=file).dags["own_release__shop"].get_task(task)

        yield shop, anew


def ran(task: Any, left: dict[Any, Any], number: int = 1, version: str = "1.5.0") -> Any:
    """Run a task as a worker does, which has it from the file each time; the provider's asks more of its context than ours."""
    made, run = context(left, version=version), {"dag_id": "own_release__shop", "run_id": "run-1"}
    made["dag_run"].dag_id = run["dag_id"]
    vars(made["ti"]).update(run, task_id=task.task_id, map_index=-1, try_number=number)
    made |= {"run_id": run["run_id"]}
    task.render_template_fields(made)
    return task.execute(made)


def on_the_real_node(task: Any, command: str) -> Any:
    """Let the pod be a container that really runs; all else is as shipped."""
    task.image, task.image_pull_policy, task.cmds = kube_node.IMAGE, "Never", command.split()
    task.node_selector = {"kubernetes.io/hostname": kube_node.NAME}
    task.tolerations = [{"key": "rig.bluegreen/real", "operator": "Exists"}]
    return task


def test_the_example_with_a_step_of_its_own_runs_with_the_rights_that_are_shipped(own: Any) -> None:
    from airflow.sdk.exceptions import AirflowException

    shop, task = own
    with pytest.raises(AirflowException, match=r"CrashLoopBackOff(?s:.*)shop-green is given back what it was before"):
        ran(task("deploy"), {}, version="crash")
    assert image_of(shop, "shop-green") == "shop:0"
    deployed = ran(task("deploy"), {})
    assert (deployed["color"], deployed["version"], deployed["ready"]) == ("green", "1.5.0", 2)
    assert image_of(shop, "shop-green") == "shop:1.5.0"
    left = {("deploy", "return_value"): deployed}
    with pytest.raises(AirflowException, match=r"Pod .* returned a failure"):
        ran(on_the_real_node(task("load_test"), "/bin/cat"), left)
    (failed,) = shop.list("Pod", "dag_id=own_release__shop")  # it stays for a look
    # Its own program would have had these words.
    assert failed["spec"]["containers"][0]["args"] == ["--target", "http://shop-green", "--for", "60s"]
    assert "cat: open --target" in shop.kubectl("logs", failed["metadata"]["name"])
    passes = on_the_real_node(task("load_test"), "/bin/cat")
    passes.arguments = ["/proc/version"]
    ran(passes, left, number=2)
    assert [pod["metadata"]["name"] for pod in shop.list("Pod", "dag_id=own_release__shop")] == [
        failed["metadata"]["name"]
    ]
    assert ran(task("move"), left)["proof"]["says"] == "proven"
    witness = json.loads(shop.kubectl("get", "service", "shop", "-o", "json"))
    assert (witness["spec"]["selector"]["color"], stamp_in(witness)["phase"]) == ("green", "settled")
    assert unused(shop, "deployer-pods.yaml") == set()


def image_of(shop: Any, deployment: str) -> str:
    path = "jsonpath={.spec.template.spec.containers[0].image}"
    return shop.kubectl("get", "deployment", deployment, "-o", path)


def unused(shop: Any, file: str) -> set[str]:
    """What a Role allows and nobody has asked the API server for."""
    role = yaml.safe_load((FOLDER / file).read_text().partition("---")[0])
    may = {f"{verb} {what}" for rule in role["rules"] for what in rule["resources"] for verb in rule["verbs"]}
    asked = [(call["verb"], call["objectRef"]) for call in shop.plane.calls(shop.name)]
    return may - {f"{verb} {'/'.join(filter(None, (of['resource'], of.get('subresource'))))}" for verb, of in asked}
