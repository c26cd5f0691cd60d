"""Which pods have the ports that a Service sends requests to."""

from __future__ import annotations

from bluegreen.core.colors import Color
from bluegreen.routers.kube_pods import unreached

READY = {"conditions": [{"type": "Ready", "status": "True"}]}
SERVICE = {"spec": {"ports": [{"port": 80, "targetPort": "web"}, {"port": 81, "targetPort": 8081}, {"port": 82}]}}


def pod(*names, status=READY, **containers):
    ports = [{"name": name, "containerPort": 8080} for name in names]
    return {"metadata": {"name": "x"}, "spec": {"containers": [{"ports": ports}, {}], **containers}, "status": status}


def lacking(blue, green):
    return unreached(SERVICE, {Color.BLUE: blue, Color.GREEN: green})


def test_a_port_that_one_color_alone_has_by_that_name_is_missed():
    fact = "2 ready pods of green have no container port web, where port 80 leads"
    assert lacking([pod("web")], [pod("http"), pod(), pod("web")]) == {Color.GREEN: fact}
    assert lacking([pod()], [pod("web")]).keys() == {Color.BLUE}


def test_a_pod_that_is_not_ready_gets_no_requests():
    assert lacking([pod("web")], [pod("http", status={})]) == {}


def test_a_port_that_no_pod_has_is_no_loss():
    assert lacking([pod("http")], [pod("http")]) == {}


def test_a_sidecar_may_have_the_port_and_what_runs_before_the_pod_may_not():
    ports = [{"ports": [{"name": "web", "containerPort": 8080}]}]
    beside, before = [{**ports[0], "restartPolicy": "Always"}], ports
    assert lacking([pod("web")], [pod(initContainers=beside)]) == {}
    assert lacking([pod("web")], [pod(initContainers=before)]).keys() == {Color.GREEN}
