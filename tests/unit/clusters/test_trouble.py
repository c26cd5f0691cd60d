"""What an API server's refusals mean: bodies as kube-apiserver 1.37 sends them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bluegreen.clusters.trouble import Asked, answered

ASKED = Asked("patch", "services", "", "shop", "eu", "connection prod_eu")
RBAC = (
    'services "shop" is forbidden: User "system:serviceaccount:airflow:bluegreen" cannot patch resource "services" '
    'in API group "" in the namespace "eu"'
)
QUOTA = 'deployments.apps "shop" is forbidden: exceeded quota: small, requested: count/deployments.apps=1, used: 1, limited: 1'
TERMINATING = (
    'deployments.apps "shop" is forbidden: unable to create new content in namespace eu because it is being terminated'
)
UNTYPED = (
    "failed to create typed patch object (eu/shop; apps/v1, Kind=Deployment): .spec.replicas: expected numeric (int or float), "
    'got &value.valueUnstructured{Value:"3"}'
)
FAILED_TEST = {
    "message": "the server rejected our request due to an error in our request",
    "reason": "Invalid",
    "details": {},
}


def body(**fields: Any) -> str:
    return json.dumps({"kind": "Status", "status": "Failure"} | fields)


@pytest.mark.parametrize(
    ("status", "found", "kind", "fact", "mend"),
    [
        (401, body(message="Unauthorized"), "forbidden", "401, the login is not accepted", "connection prod_eu"),
        (403, body(message=RBAC), "forbidden",
         "system:serviceaccount:airflow:bluegreen may not patch services/shop in namespace eu",
         'add the rule {apiGroups: [""], resources: ["services"], verbs: ["patch"]}'),
        (403, body(message='pods "shop-1" is forbidden: '), "forbidden", "connection prod_eu may not patch services/shop",
         'add the rule {apiGroups: [""], resources: ["services"], verbs: ["patch"]}'),
        (403, body(message=QUOTA), "refused", "exceeded quota: small", "give the namespace more quota"),
        (403, body(message=TERMINATING), "refused", "being terminated", "the namespace is being deleted"),
        (404, body(message="not found", details={"name": "shop"}), "missing", "there is no services/shop in namespace eu",
         "name it as the cluster does"),
        (404, body(message="the server could not find the requested resource"), "missing", "the cluster knows no services",
         "custom resource definitions"),
        (409, body(message="the object has been modified"), "conflict", "409 the object has been modified", "see who wrote it: kubectl -n eu get services shop -o yaml"),
        (422, body(**FAILED_TEST), "conflict", "it is not as it was read", "see who wrote it: kubectl -n eu get services shop -o yaml"),
        (422, body(message="Invalid value: 70000", reason="Invalid", details={"kind": "Service"}), "refused", "Invalid value: 70000", "mend"),
        (410, body(message="too old resource version"), "expired", "too old", "read again"),
        (429, body(message="too many requests"), "unreachable", "429", "try again"),
        (500, body(message=UNTYPED), "refused", ".replicas: expected numeric (int or float), got another type", "mend that field"),
        (500, "etcdserver: request timed out", "unreachable", "etcdserver: request timed out", "try again"),
        (503, "", "unreachable", "503", "try again"),
        (502, "<html>\n<b>Bad gateway</b>", "unreachable", "502 <html> <b>Bad gateway</b>", "try again"),
    ],
)  # fmt: skip
def test_an_answer_is_one_kind_with_a_fact_and_a_mend(status: int, found: str, kind: str, fact: str, mend: str) -> None:
    trouble = answered(status, found, ASKED)
    assert trouble.kind == kind
    assert fact in trouble.fact
    assert mend in trouble.mend


def test_a_rule_names_a_subresource_and_its_group() -> None:
    asked = Asked("patch", "deployments/scale", "apps", "shop-green", "eu", "")
    assert asked.rule == '{apiGroups: ["apps"], resources: ["deployments/scale"], verbs: ["patch"]}'
    assert asked.what == "patch deployments/scale/shop-green in namespace eu"


@pytest.mark.parametrize("status", [400, 422, 500])
def test_what_an_api_server_quotes_of_a_secret_is_not_passed_on(status: int) -> None:
    said = UNTYPED.replace('"3"', "hunter2")
    trouble = answered(
        status, body(message=said, details={"kind": "secrets"}), Asked("patch", "secrets", "", "s", "eu", "")
    )
    assert (trouble.kind, "hunter2" in f"{trouble.fact} {trouble.mend}") == ("refused", False)
    assert "cannot patch secrets/s in namespace eu" in trouble.fact
