"""What is said of a file of manifests that nobody can work with: its place and key, what was found, and never a value."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from bluegreen.core.colors import Color
from bluegreen.core.errors import DeployError
from bluegreen.deployers.kube_inside import Inside
from bluegreen.deployers.kube_manifests import read_manifests
from bluegreen.deployers.kube_words import words_for

WEB = """\
apiVersion: apps/v1
kind: Deployment
metadata: {name: shop-$COLOR}
spec: {template: {metadata: {labels: {app: shop}}}}
---
"""
MAP = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x-$COLOR}\n"
SECRET = "apiVersion: v1\nkind: Secret\nmetadata: {name: x-$COLOR}\n"  # noqa: S105 - a manifest
CRON = "apiVersion: batch/v1\nkind: CronJob\nmetadata: {name: x-$COLOR}\n"
JOB = "apiVersion: batch/v1\nkind: Job\n"
WORDS = words_for("shop", "green", "1.0")


@pytest.fixture
def file(tmp_path):
    return tmp_path / "shop.yaml"


def read(file: Path, text: str):
    file.write_text(text)
    return read_manifests([file], WORDS, Color.GREEN, "eu", "shop-green")


def refused(file: Path, text: str) -> str:
    with pytest.raises(DeployError) as raised:
        read(file, text)
    assert raised.value.next_step.startswith("nothing was touched; ")
    return str(raised.value)


QUOTE = "wanted a text; nothing was touched; put it in quotes"
KEYS = "wanted keys with values"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"{SECRET}stringData: {{pw: 8812345678}}", f"Secret x-$COLOR: stringData.pw is a whole number, {QUOTE}"),
        (f"{SECRET}data: {{pw: [8812345678]}}", f"Secret x-$COLOR: data.pw is a list, {QUOTE}"),
        (f"{SECRET}data: {{pw: {{a: 8812345678}}}}", f"data.pw is keys with values, {QUOTE}"),
        (f"{SECRET}stringData: {{pw: true}}", f"stringData.pw is true or false, {QUOTE}"),
        (f"{SECRET}stringData: {{pw: }}", f"stringData.pw is nothing, {QUOTE}"),
        (f"{SECRET}stringData: [8812345678]", f"stringData is a list, {KEYS}"),
        (f"{SECRET}stringData: {{pw: 1988-12-31}}", "stringData.pw is read as a date, which no object has; nothing was"),
        (f"{MAP}data: {{port: 8080}}", f"document 2: ConfigMap x-$COLOR: data.port is a whole number, {QUOTE}"),
        (f"{MAP}data: {{at: 2026-11-29}}", "document 2: data.at is read as a date, which no object has; nothing was touch"),
        (f"{MAP}binaryData: {{a: !!binary aGVsbG8=}}", "binaryData.a is read as binary data, which no object has"),
        (f"{MAP}data: {{a: !!set {{b, c}}}}", "data.a is read as a set, which no object has"),
        (f"{MAP}data: {{a: b, 8080: c}}", f"document 2: the key 8080 of data is read as a whole number, {QUOTE}"),
        (f"{MAP}data: {{a: .nan}}", "data.a is read as a number, which no object has"),
        (f"{MAP}data: &a {{b: *a}}", "document 2 is nested too deeply, or an alias stands in itself; nothing was touch"),
        (f"{MAP}data: {{a: 2026-13-45}}", "shop.yaml is no YAML"),
        (f"{MAP}data: {'[' * 3000}", "shop.yaml is no YAML"),
        (f"{MAP}data: {{a: !Ref x}}", "shop.yaml, line 9 is no YAML"),
        ("apiVersion: v1\nkind: List\nitems: 5", "document 2: items is a whole number, wanted a list"),
        ("apiVersion: v1\nkind: List\nitems: [5]", "document 2, items[0] holds what is no object with a name"),
        ("[1]", "document 2 holds what is no object with a name"),
        ("apiVersion: v1\nkind: ConfigMap\nmetadata: {generateName: x}", "generateName is no name that it can be found by"),
        ("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: 5}", f"document 2: metadata.name is a whole number, {QUOTE}"),
        ("apiVersion: v1\nkind: [a]\nmetadata: {name: x}", f"document 2: kind is a list, {QUOTE}"),
        ("kind: ConfigMap\nmetadata: {name: x}", f"document 2: apiVersion is nothing, {QUOTE}"),
        (f"{MAP.replace('}', ', labels: [a]}')}", f"metadata.labels is a list, {KEYS}"),
        (f"{MAP.replace('}', ', annotations: text}')}", f"metadata.annotations is a text, {KEYS}"),
        (f"{MAP.replace('}', ', annotations: [a]}')}", f"metadata.annotations is a list, {KEYS}"),
        (f"{MAP.replace('}', ', labels: {a: 1}}')}", f"metadata.labels.a is a whole number, {QUOTE}"),
        (f"{CRON}spec: text", f"CronJob x-$COLOR: spec is a text, {KEYS}"),
        (f"{CRON}spec: {{jobTemplate: text}}", f"spec.jobTemplate is a text, {KEYS}"),
        (f"{CRON}spec: {{jobTemplate: {{spec: {{template: [1]}}}}}}", f"spec.jobTemplate.spec.template is a list, {KEYS}"),
        (WEB.replace("{template: {m", "{replicas: '3', template: {m"), "document 2: Deployment shop-$COLOR: spec.replicas is a text"),
        (WEB.replace("{template: {m", "{replicas: , template: {m"), "spec.replicas is nothing, wanted a whole number"),
        (WEB.replace("{template: {m", "{replicas: yes, template: {m"), "spec.replicas is true or false, wanted a whole num"),
        (WEB.replace("{template: {metadata: {labels: {app: shop}}}}", "{template: text}"), f"spec.template is a text, {KEYS}"),
        (WEB.replace("labels: {app: shop}", "labels: [a]"), f"spec.template.metadata.labels is a list, {KEYS}"),
        (MAP + "---\n" + MAP, "shop.yaml, document 2, and "),
        (
            "apiVersion: autoscaling/v1\nkind: HorizontalPodAutoscaler\nmetadata: {name: x-$COLOR}",
            "x-green is nothing that a release applies; nothing was touched; write apiVersion: autoscaling/v2",
        ),
        ("apiVersion: v1\nkind: Namespace\nmetadata: {name: x-$COLOR}", "apply it yourself; a release takes ConfigMap, Cron"),
    ],
)  # fmt: skip
def test_what_nobody_can_work_with_is_refused_with_its_place_and_no_value(file, text, said):
    found = refused(file, WEB + text)
    assert f"shop: green: {file}" in found or "stands twice" in found
    assert said in found
    assert not [word for word in ("8812345678", "1988", "hunter2") if word in found]


def test_what_stands_twice_is_told_with_both_places(file):
    found = refused(file, f"{WEB}{MAP}data: {{a: '1'}}\n---\n{MAP}data: {{a: '2'}}")
    assert f"ConfigMap x-green stands twice: {file}, document 2, and {file}, document 3; nothing was touched" in found


def test_manifests_without_the_colors_deployment_are_refused(file):
    assert f"{file}: there is no Deployment shop-green in them; nothing was touched; the Deployment" in refused(
        file, MAP
    )


def test_aliases_that_repeat_each_other_end(file):
    many = "".join(f"  k{n}: &k{n} [{', '.join([f'*k{n - 1}'] * 9)}]\n" for n in range(1, 9))
    assert "never ends" in refused(file, f"{WEB}{MAP}data:\n  k0: &k0 [a]\n{many}")


def test_what_is_whole_is_taken_as_it_stands(file):
    labels = "labels: &l {app: shop}, annotations: {a: 'yes'}, namespace: "
    listed = f"kind: List\nitems:\n- {{apiVersion: v1, kind: Service, metadata: {{name: s-$COLOR, {labels}}}, spec: {{a: *l}}}}"
    text = f"{WEB}---\n{MAP}data: {{v: $VERSION}}\n---\n{SECRET}data: \nstringData: {{pw: '8812345678'}}\n---\n{listed}"
    assert [str(one) for one in read(file, text)] == [
        "ConfigMap x-green", "Secret x-green", "Service s-green", "Deployment shop-green",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"{JOB}metadata: {{generateName: smoke-}}\nspec: {{}}", "holds what is no object with a name"),
        (f"{JOB}spec: {{}}", "holds what is no object with a name"),
        (f"{JOB}metadata: smoke\nspec: {{}}", "holds what is no object with a name"),
        (f"{JOB}metadata: {{name: x, labels: [a]}}\nspec: {{}}", "Job x: metadata.labels is a list, wanted keys with"),
        (f"{JOB}metadata: {{name: x}}\nspec: {{template: text}}", "Job x: spec.template is a text, wanted keys with"),
        (f"{JOB}metadata: {{name: x}}\n---\n{JOB}metadata: {{name: y}}", "holds no Job of batch/v1"),
        (MAP, "holds no Job of batch/v1"),
        ("", "holds no Job of batch/v1"),
        ("a: [", "is no YAML"),
    ],
)
def test_a_smoke_tests_job_is_looked_at_in_the_same_way(file, text, said):
    file.write_text(text)
    with pytest.raises(DeployError) as raised:
        Inside(None, "shop", "green", print).job(file, WORDS, timedelta(seconds=1))
    assert str(file) in raised.value.fact
    assert said in raised.value.fact
    assert raised.value.next_step.startswith("no traffic was moved; ")


def test_a_job_file_that_is_not_there_is_said(file):
    with pytest.raises(
        DeployError, match=r"shop\.yaml cannot be read: FileNotFoundError; no traffic was moved; mend the"
    ):
        Inside(None, "shop", "green", print).job(file, WORDS, timedelta(seconds=1))
