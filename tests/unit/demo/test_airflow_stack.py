"""The stack with a real Airflow: what is started works, survives a killed scheduler, and leaves nothing behind."""

import os
import signal
import socket
import stat

import psutil
import pytest
import requests

from demo.airflow import COMPONENTS, AirflowStack, AirflowStackError
from demo.rest import AirflowApi, ApiError
from tests.system.conftest import PATIENCE_S, eventually

pytestmark = [pytest.mark.system, pytest.mark.timeout(1200)]

DAGS = '''
"""A dag for the test of the stack."""
import time

from airflow.sdk import Param, dag, task


@dag(schedule=None, is_paused_upon_creation=False, params={"nap_s": Param(0, type="integer", maximum=60)})
def tiny():
    @task
    def nap(params=None):
        print("sleeping", params["nap_s"], flush=True)
        time.sleep(params["nap_s"])
        return {"slept": params["nap_s"]}

    nap()


tiny()
'''


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("airflow")
    (root / "plugins").mkdir()
    (root / "dags").mkdir()
    (root / "dags" / "tiny.py").write_text(DAGS)
    return root


@pytest.fixture(scope="module")
def callers_airflow(tmp_path_factory):
    """The caller's own Airflow, which must stay as it is."""
    own = tmp_path_factory.mktemp("own") / "airflow"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW_HOME", str(own))
        patch.setenv("AIRFLOW__CORE__LOAD_EXAMPLES", "true")
        patch.setenv("AIRFLOW__API__BASE_URL", "http://127.0.0.1:1/elsewhere")
        yield own


@pytest.fixture(scope="module")
def stack(folders, callers_airflow):
    with AirflowStack(folders / "home", folders / "dags", folders / "plugins", parallelism=2) as stack:
        yield stack


@pytest.fixture(scope="module")
def api(stack):
    api = AirflowApi(stack.url, *stack.login)
    api.wait_dags({"tiny"}, PATIENCE_S)
    return api


def test_a_run_succeeds_and_can_be_read(api):
    run_id = api.trigger("tiny")["dag_run_id"]
    seen = []
    ended = api.wait_run("tiny", run_id, PATIENCE_S, lambda task_id, state: seen.append((task_id, state)))
    assert ended["state"] == "success"
    assert seen[-1] == ("nap", "success")
    assert api.tasks("tiny", run_id) == {"nap": "success"}
    assert api.xcom("tiny", run_id, "nap") == {"slept": 0}
    assert "sleeping 0" in api.task_log("tiny", run_id, "nap")


def test_airflow_says_no_in_its_own_words(api):
    with pytest.raises(ApiError, match="'a while' is not of type 'integer'") as wrong:
        api.trigger("tiny", {"nap_s": "a while"})
    assert wrong.value.status == 400
    api.trigger("tiny", run_id="once")
    with pytest.raises(ApiError) as twice:
        api.trigger("tiny", run_id="once")
    assert twice.value.status == 409


def test_nobody_gets_in_without_a_token(stack, api):
    assert requests.get(f"{stack.url}/api/v2/dags", timeout=PATIENCE_S).status_code == 401
    with pytest.raises(ApiError) as stranger:
        AirflowApi(stack.url, "admin", "admin").runs("tiny")
    assert stranger.value.status == 401
    with pytest.raises(ApiError) as viewer:
        AirflowApi(stack.url, *stack.logins["viewer"]).trigger("tiny")
    assert viewer.value.status == 403


def test_an_expired_token_is_renewed(api):
    api._session.headers["Authorization"] = "Bearer expired"
    assert api.runs("tiny", limit=1)


def test_secrets_are_for_their_owner_only(stack):
    for name in ("passwords.json", "secrets.json"):
        assert stat.S_IMODE((stack.home / name).stat().st_mode) == 0o600
    assert len(set(stack.logins.values())) == len(stack.logins) == 3


def test_the_callers_own_airflow_is_not_touched(stack, api, callers_airflow):
    assert not callers_airflow.exists()
    assert [dag["dag_id"] for dag in api.get_all("dags", "dags")] == ["tiny"]


def test_pools_and_memory(stack, api):
    slots = {pool["name"]: pool["slots"] for pool in api.get("pools")["pools"]}
    assert slots == {"default_pool": 4, "bluegreen_way_back": 4}
    memory = stack.memory_mib()
    assert memory.keys() == COMPONENTS.keys()
    assert all(mib > 20 for mib in memory.values())


def test_a_taken_port_and_a_running_home_are_named(stack, folders, tmp_path):
    with pytest.raises(AirflowStackError, match=f"port {stack.port} of 127.0.0.1 is taken"):
        AirflowStack(tmp_path / "home", folders / "dags", folders / "plugins", port=stack.port).start()
    assert not (tmp_path / "home").exists()
    with pytest.raises(AirflowStackError, match="is running here already"):
        AirflowStack(stack.home, folders / "dags", folders / "plugins").start()


def test_a_killed_task_fails_its_run(stack, api):
    run_id = api.trigger("tiny", {"nap_s": 60})["dag_run_id"]

    def this_task():
        pid = api.task("tiny", run_id, "nap")["pid"]
        return next((running for running in stack.task_processes() if running.task == pid), None)

    running = eventually(this_task, "the task to run")
    assert running.supervisor in stack.pids("scheduler")
    os.kill(running.task, signal.SIGKILL)
    assert api.wait_run("tiny", run_id, PATIENCE_S)["state"] == "failed"
    assert running not in stack.task_processes()


def test_a_run_finishes_after_the_scheduler_was_killed(stack, api):
    stack.kill("scheduler", only_parent=True)
    assert stack.processes("scheduler"), "idle workers outlive a killed scheduler"
    run_id = api.trigger("tiny")["dag_run_id"]
    stack.start_component("scheduler")
    assert api.wait_run("tiny", run_id, PATIENCE_S)["state"] == "success"


def test_a_component_that_dies_is_named_with_its_last_words(stack):
    stack.kill("triggerer")
    with pytest.raises(AirflowStackError, match="triggerer ended"):
        stack.wait_healthy(10)
    stack.start_component("triggerer")


def test_nothing_is_left_after_stop_and_a_second_start_knows_the_past(folders, stack, api):
    """Last in this file: it ends the module's stack, with a task running and orphaned workers about."""
    api.trigger("tiny", {"nap_s": 60})
    eventually(stack.task_processes, "a task to run")
    pids = [process.pid for process in stack.processes()]
    stack.stop(grace_s=5)
    assert [pid for pid in pids if psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie"] == []
    assert stack.processes() == []
    with socket.socket() as port:
        port.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        port.bind(("127.0.0.1", stack.port))
    stack.start()
    assert AirflowApi(stack.url, *stack.login).run("tiny", "once")["state"] == "success"
