"""A thin client for Airflow's public REST API: what the demo, the system tests and a CI job ask of an Airflow."""

import json
import time
from collections.abc import Callable, Collection, Iterable
from typing import Any
from urllib.parse import quote, urlsplit

import requests

__all__ = ["AirflowApi", "ApiError"]

ENDED = frozenset({"success", "failed"})
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
POLL_S = 0.5


DATABASE_TRIES = 3


class ApiError(Exception):
    """Airflow said no: its status and its own sentence."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(f"{status}: {detail}")
        self.status = status
        self.detail = detail


class AirflowApi:
    """
    One user's view of an Airflow.

    :param url: of the API server, without /api/v2
    :param user: who asks
    :param password: the user's
    :param timeout_s: of one request
    """

    def __init__(self, url: str, user: str, password: str, timeout_s: float = 120.0) -> None:
        self.url = url.rstrip("/")
        self.timeout_s = timeout_s
        self._login = {"username": user, "password": password}
        self._session = requests.Session()
        self._session.trust_env = urlsplit(url).hostname not in LOOPBACK  # no proxy leads to one's own machine

    # Runs

    def trigger(self, dag_id: str, conf: dict[str, Any] | None = None, run_id: str | None = None) -> dict[str, Any]:
        """Start a run. A bad parameter is an ApiError 400, a run id that exists a 409."""
        body = {"logical_date": None, "conf": conf or {}}
        return self.post(_path("dags", dag_id, "dagRuns"), body | ({"dag_run_id": run_id} if run_id else {}))

    def run(self, dag_id: str, run_id: str) -> dict[str, Any]:
        """The run: its state, conf, note, times."""
        return self.get(_path("dags", dag_id, "dagRuns", run_id))

    def runs(self, dag_id: str, limit: int = 100) -> list[dict[str, Any]]:
        """The latest runs, newest first."""
        return self.get(_path("dags", dag_id, "dagRuns"), order_by="-run_after", limit=limit)["dag_runs"]

    def mark_run(self, dag_id: str, run_id: str, state: str, note: str | None = None) -> dict[str, Any]:
        """Mark a run `failed`, `success` or `queued`; its teardowns still run."""
        body = {"state": state} | ({"note": note} if note is not None else {})
        return self.patch(_path("dags", dag_id, "dagRuns", run_id), body)

    def note(self, dag_id: str, run_id: str) -> str:
        """The run's note; empty if there is none."""
        return self.run(dag_id, run_id)["note"] or ""

    def clear_run(self, dag_id: str, run_id: str, *, only_failed: bool = False) -> dict[str, Any]:
        """Run a run again, all of it or what failed."""
        body = {"dry_run": False, "only_failed": only_failed}
        return self.post(_path("dags", dag_id, "dagRuns", run_id, "clear"), body)

    def wait_run(
        self,
        dag_id: str,
        run_id: str,
        timeout_s: float,
        on_change: Callable[[str, str | None], None] | None = None,
    ) -> dict[str, Any]:
        """Wait for the run's end, telling `on_change` each task's new state; TimeoutError names what was under way."""
        deadline = time.monotonic() + timeout_s
        seen: dict[str, str | None] = {}
        while True:
            run = self.run(dag_id, run_id)  # before the tasks: the last change must not be missed
            states = self.tasks(dag_id, run_id)
            for task_id, state in states.items():
                if on_change and state != seen.get(task_id):
                    on_change(task_id, state)
            seen = states
            if run["state"] in ENDED:
                return run
            if time.monotonic() > deadline:
                raise TimeoutError(f"{dag_id} {run_id} is {run['state']} after {timeout_s:g} s: {states}")
            time.sleep(POLL_S)

    # Tasks

    def tasks(self, dag_id: str, run_id: str) -> dict[str, str | None]:
        """Task -> state, in the order they started; a mapped task is `task[0]`, `task[1]`."""
        found = self.task_instances(dag_id, run_id)
        found.sort(key=lambda task: (task["start_date"] is None, task["start_date"] or "", task["task_id"]))
        return {_name(task): task["state"] for task in found}

    def task_instances(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        """Everything Airflow tells about the run's tasks."""
        return self.get_all(_path("dags", dag_id, "dagRuns", run_id, "taskInstances"), "task_instances")

    def task(self, dag_id: str, run_id: str, task_id: str) -> dict[str, Any]:
        """Everything Airflow tells about one task."""
        return self.get(_path("dags", dag_id, "dagRuns", run_id, "taskInstances", task_id))

    def task_log(self, dag_id: str, run_id: str, task_id: str, try_number: int | None = None) -> str:
        """The log of one try, by default the latest, as lines of text."""
        number = try_number or self.task(dag_id, run_id, task_id)["try_number"]
        path = _path("dags", dag_id, "dagRuns", run_id, "taskInstances", task_id, "logs", number)
        content = self.get(path, full_content="true")["content"]
        return "\n".join(_log_line(entry) for entry in content)

    def xcom(self, dag_id: str, run_id: str, task_id: str, key: str = "return_value") -> Any:
        """What a task pushed; ApiError 404 if it did not."""
        path = _path("dags", dag_id, "dagRuns", run_id, "taskInstances", task_id, "xcomEntries", key)
        return self.get(path, deserialize="true")["value"]

    def add_xcom(self, dag_id: str, run_id: str, task_id: str, key: str, value: Any) -> dict[str, Any]:
        """Leave a value at a task, as a person may do in the UI."""
        path = _path("dags", dag_id, "dagRuns", run_id, "taskInstances", task_id, "xcomEntries")
        return self.post(path, {"key": key, "value": value, "map_index": -1})

    def question(self, dag_id: str, run_id: str, task_id: str) -> dict[str, Any]:
        """What a task asks people, and their answer; ApiError 404 if it has not asked."""
        return self.get(_path("dags", dag_id, "dagRuns", run_id, "taskInstances", task_id, -1, "hitlDetails"))

    def answer(self, dag_id: str, run_id: str, task_id: str, option: str, comment: str | None = None) -> dict[str, Any]:
        """Answer a task; ApiError 403 if this user is not asked, 409 if it is answered."""
        path = _path("dags", dag_id, "dagRuns", run_id, "taskInstances", task_id, -1, "hitlDetails")
        return self.patch(path, {"chosen_options": [option], "params_input": {"comment": comment}})

    def links(self, dag_id: str, run_id: str, task_id: str) -> dict[str, str | None]:
        """The buttons an operator gives its task: name -> address."""
        return self.get(_path("dags", dag_id, "dagRuns", run_id, "taskInstances", task_id, "links"))["extra_links"]

    def mark_task(self, dag_id: str, run_id: str, task_id: str, state: str) -> dict[str, Any]:
        """Mark a task `failed`, `success` or `skipped`."""
        return self.patch(_path("dags", dag_id, "dagRuns", run_id, "taskInstances", task_id), {"new_state": state})

    def clear_tasks(
        self, dag_id: str, run_id: str, task_ids: Iterable[str], *, only_failed: bool = False, downstream: bool = False
    ) -> list[str]:
        """Run tasks again; returns all that Airflow cleared, for it adds the setups and teardowns."""
        body = {
            "dry_run": False,
            "dag_run_id": run_id,
            "task_ids": list(task_ids),
            "only_failed": only_failed,
            "include_downstream": downstream,
        }
        return [_name(task) for task in self.post(_path("dags", dag_id, "clearTaskInstances"), body)["task_instances"]]

    # DAGs

    def pause(self, dag_id: str, paused: bool) -> dict[str, Any]:
        """Pause a DAG, or go on with it."""
        return self.patch(_path("dags", dag_id), {"is_paused": paused})

    def wait_dags(self, dag_ids: Collection[str], timeout_s: float) -> None:
        """Wait until Airflow knows all these DAGs; TimeoutError says which are missing and what failed to import."""
        deadline = time.monotonic() + timeout_s
        while missing := sorted(set(dag_ids) - {dag["dag_id"] for dag in self.get_all("dags", "dags")}):
            if time.monotonic() > deadline:
                raise TimeoutError(f"not seen after {timeout_s:g} s: {missing}; import errors: {self.import_errors()}")
            time.sleep(POLL_S)

    def task_ids(self, dag_id: str) -> list[str]:
        """The tasks of the DAG as Airflow knows it now."""
        return [task["task_id"] for task in self.get(_path("dags", dag_id, "tasks"))["tasks"]]

    def import_errors(self) -> dict[str, str]:
        """File -> what its import raised."""
        found = self.get_all("importErrors", "import_errors")
        return {error["filename"]: error["stack_trace"] for error in found}

    # Any other request

    def get(self, path: str, **params: Any) -> Any:
        """GET below /api/v2, as JSON."""
        return self._ask("GET", path, params=params)

    def get_all(self, path: str, key: str) -> list[dict[str, Any]]:
        """GET every page of a list."""
        found: list[dict[str, Any]] = []
        while True:
            page = self.get(path, limit=100, offset=len(found))
            found += page[key]
            if not page[key] or len(found) >= page["total_entries"]:
                return found

    def post(self, path: str, body: dict[str, Any]) -> Any:
        """POST below /api/v2, as JSON."""
        return self._ask("POST", path, json=body)

    def patch(self, path: str, body: dict[str, Any]) -> Any:
        """PATCH below /api/v2, as JSON."""
        return self._ask("PATCH", path, json=body)

    def _ask(self, method: str, path: str, **kwargs: Any) -> Any:
        if "Authorization" not in self._session.headers:
            self._take_token()
        answer = self._send(method, f"/api/v2/{path}", **kwargs)
        if _is_token_refused(answer):
            self._take_token()
            answer = self._send(method, f"/api/v2/{path}", **kwargs)
        for _ in range(DATABASE_TRIES):
            if not _is_database_busy(answer):
                break
            answer = self._send(method, f"/api/v2/{path}", **kwargs)
        return _content(answer)

    def _take_token(self) -> None:
        self._session.headers.pop("Authorization", None)
        token = _content(self._send("POST", "/auth/token", json=self._login))["access_token"]
        self._session.headers["Authorization"] = f"Bearer {token}"

    def _send(self, method: str, path: str, **kwargs: Any) -> requests.Response:
        return self._session.request(
            method, self.url + path, timeout=self.timeout_s, headers={"Accept": "application/json"}, **kwargs
        )


def _is_token_refused(answer: requests.Response) -> bool:
    """An expired token is a 401; one of another secret is a 403, as is what the user may not do."""
    return answer.status_code == 401 or (answer.status_code == 403 and "token" in _detail(answer).lower())


def _is_database_busy(answer: requests.Response) -> bool:
    """Two of Airflow's own writers can wait for each other on SQLite; after 5 s one is told no, and nothing of it is done."""
    return answer.status_code == 500 and "Database error" in _detail(answer)


def _content(answer: requests.Response) -> Any:
    if not answer.ok:
        raise ApiError(answer.status_code, _detail(answer))
    return answer.json() if answer.content else None


def _detail(answer: requests.Response) -> str:
    """Airflow's sentence: a text, a list of pydantic errors, or an object with a message."""
    try:
        detail = answer.json()["detail"]
    except (ValueError, KeyError, TypeError):
        return answer.text[:500] or str(answer.reason)
    return detail if isinstance(detail, str) else json.dumps(detail)


def _path(*parts: object) -> str:
    return "/".join(quote(str(part), safe="") for part in parts)


def _name(task: dict[str, Any]) -> str:
    return task["task_id"] if task.get("map_index", -1) < 0 else f"{task['task_id']}[{task['map_index']}]"


def _log_line(entry: Any) -> str:
    """One structured log entry as text, with what a failed task raised."""
    if not isinstance(entry, dict):
        return str(entry)
    raised = [f"{error['exc_type']}: {error['exc_value']}" for error in entry.get("error_detail") or ()]
    return "\n".join([entry.get("event", ""), *raised])
