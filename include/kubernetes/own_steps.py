"""
A DAG of one's own with a step that no release has: deploy to the idle color, test it from a pod, move the traffic.

Copy it into dags/. `shop` is a service file with `deploy.type: kubernetes` and `router.type: kube_service`. What the pod
needs, deployer-pods.yaml allows, beside deployer.yaml.
"""

from __future__ import annotations

from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.sdk import DAG

from bluegreen.operators.deploying import KubernetesDeployOperator
from bluegreen.operators.traffic import KubernetesServiceTrafficOperator

with DAG("own_release__shop", schedule=None, max_active_runs=1, params={"version": "1.5.0"}):
    deploy = KubernetesDeployOperator(task_id="deploy", service="shop", version="{{ params.version }}")
    # Your own image, with the provider's own connection; it answers for itself: anything but 0 fails the run here.
    load_test = KubernetesPodOperator(
        task_id="load_test",
        kubernetes_conn_id="prod_eu",
        namespace="shop",
        image="registry.example/load-test:3",
        arguments=["--target", "http://shop-{{ ti.xcom_pull('deploy')['color'] }}", "--for", "60s"],
        on_finish_action="delete_succeeded_pod",
    )
    # Claimed, switched, proven, settled; put back where it is not proven. Without this task no traffic moves. It names the
    # color that was deployed to: `idle` would be the other one if somebody moved the traffic meanwhile.
    color = "{{ ti.xcom_pull('deploy')['color'] }}"
    move = KubernetesServiceTrafficOperator(task_id="move", service="shop", to=color)
    deploy >> load_test >> move
