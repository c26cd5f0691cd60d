"""Charts on a real Helm and a real control plane: what is shown, what is taken back, and what a newer claim ends."""

from __future__ import annotations

import shutil
import threading
from datetime import timedelta

import pytest

from bluegreen.core.colors import Color
from bluegreen.core.errors import DeployError, DeployFenced, SecretMissing
from bluegreen.core.ports import Credentials, Deployed
from bluegreen.deployers.helm_program import Helm
from bluegreen.deployers.registry import make_deployer
from demo.processes import wait_until
from tests.rigs import kube_deploy
from tests.rigs.kube_deploy import CHART, CONNECTION, PASSWORD, allowed, helm, helm_rig

pytestmark = pytest.mark.kubernetes
ONE, TWO = "run-one@1", "run-two@2"
FENCE = "bluegreen-fence-shop-green"


@pytest.fixture
def rig(tmp_path):
    if reason := kube_deploy.missing_helm():
        pytest.skip(reason)
    with helm_rig(tmp_path, roles=None) as rig:
        yield rig


@pytest.fixture
def log():
    return []


def logging_to(rig, lines, **deploy):
    deployer = rig.deployer(**deploy)
    deployer._log = lines.append
    return deployer


def image(rig):
    return rig.of(Color.GREEN)["spec"]["template"]["spec"]["containers"][0]["image"]


def states(rig):
    return [(one["revision"], one["status"]) for one in rig.history(Color.GREEN)]


def test_the_difference_is_told_before_and_no_secret_in_it(rig, log):
    logging_to(rig, log).deploy(Color.GREEN, "2.0", 1, ONE)
    told = "\n".join(log)
    assert "-      - image: shop:0" in told
    assert "+      - image: shop:2.0" in told
    assert "-  password: '*** (before)'" in told
    assert "+  password: '*** (after)'" in told
    assert log.index("+      - image: shop:2.0") < log.index('Release "shop-green" has been upgraded. Happy Helming!')
    secret = rig.namespace.kubectl("get", "secret", "shop-green", "-o", "go-template={{.data.password | base64decode}}")
    assert secret == PASSWORD
    assert PASSWORD not in told


def chart_with(folder, was, instead):
    """Copy the rig's chart, with a part of its template changed."""
    shutil.copytree(CHART, folder / "chart")
    template = folder / "chart" / "templates" / "shop.yaml"
    text = template.read_text()
    assert was in text
    template.write_text(text.replace(was, instead, 1))
    return str(folder / "chart")


PORTS = "          ports: [{containerPort: 8080}]\n"
ENV = "          env: [{name: DB, value: {{ .Values.password | quote }}}]\n"


def test_a_password_that_yaml_would_escape_is_in_the_pods_and_not_in_the_difference(rig, tmp_path, log):
    password = rig.passwords["shop_password"] = 'it\'s: a "secret" $HOME, #x'  # noqa: S105 - what must be shown nowhere
    logging_to(rig, log, chart=chart_with(tmp_path, PORTS, PORTS + ENV)).deploy(Color.GREEN, "2.0", 1, ONE)
    assert rig.of(Color.GREEN)["spec"]["template"]["spec"]["containers"][0]["env"] == [
        {"name": "DB", "value": password}
    ]
    assert "+          value: '*** (after)'" in log
    assert "secret" not in "".join(line for line in log if "value" in line)


@pytest.mark.parametrize("password", ["[1, hunter2, x]", "{pw: hunter2}"])
def test_a_chart_that_makes_no_text_of_a_password_is_refused_and_nothing_of_it_shown(rig, tmp_path, log, password):
    rig.passwords["shop_password"] = password
    chart = chart_with(tmp_path, "{{ .Values.password | quote }}", "{{ .Values.password }}")
    with pytest.raises(DeployError, match="expected string, got") as raised:
        logging_to(rig, log, chart=chart).deploy(Color.GREEN, "2.0", 1, ONE)
    assert "hunter2" not in str(raised.value) + "".join(log)


def test_a_password_that_pods_log_is_in_no_diagnosis(rig, log):
    rig.passwords["shop_password"] = "its configuration"  # noqa: S105 - what a pod of the rig says when it crashes
    with pytest.raises(DeployError, match=r"fault: cannot read \*\*\*") as raised:
        logging_to(rig, log, ready_within="15s").deploy(Color.GREEN, "crash", 1, ONE)
    assert "its configuration" not in str(raised.value) + "\n".join(log) + rig.deployer().diagnose(Color.GREEN)


def test_whoever_does_not_know_the_password_sees_no_log_of_the_pods(rig):
    rig.helm("upgrade", "shop-green", str(CHART), "--set", "image.tag=crash", "--set", "color=green")
    wait_until(lambda: "cannot read its" in rig.deployer().diagnose(Color.GREEN), 30, "a pod that crashed")
    rig.passwords = {}
    told = rig.deployer().diagnose(Color.GREEN)
    assert "not had: logs: no connection shop_password" in told
    assert "CrashLoopBackOff" in told
    assert "cannot read its" not in told


def test_a_password_that_a_smoke_test_prints_is_not_shown(rig, log):
    allowed(rig.namespace, "deployer-smoke")
    script = f"echo connected with {PASSWORD}"
    done = logging_to(rig, log).run_command(Color.GREEN, ["sh", "-c", f"{script}; sleep 30"], timedelta(seconds=2))
    assert "connected with ***" in done[0].failure
    assert any(line.endswith("connected with ***") for line in log)
    with pytest.raises(DeployError, match=r"cannot create pods/exec") as raised:
        logging_to(rig, log).run_command(Color.GREEN, ["sh", "-c", f"{script}; exit 1"], timedelta(seconds=20))
    assert PASSWORD not in str(raised.value) + str(done) + "\n".join(log)


def test_a_connection_without_a_password_refuses_before_anything_is_touched(rig):
    rig.passwords["shop_password"] = ""
    with pytest.raises(SecretMissing, match=r"shop_password, which deploy\.secrets\.password names, has no password"):
        rig.deployer().deploy(Color.GREEN, "2.0", 1, ONE)
    assert states(rig) == [(1, "deployed")]


def test_a_certificate_that_we_do_not_look_at_helm_does_not_either(rig):
    rig.login = rig.account.config()
    for one in rig.login["clusters"]:
        one["cluster"] = {"server": one["cluster"]["server"]}
    with pytest.raises(DeployError, match="certificate"):
        rig.deployer().deploy(Color.GREEN, "2.0", 1, ONE)
    login = rig.secrets(CONNECTION).extra | {"disable_verify_ssl": True}
    deployer = make_deployer(rig.service, lambda c: Credentials(extra=login) if c == CONNECTION else rig.secrets(c))
    assert deployer.deploy(Color.GREEN, "2.0", 1, ONE) == Deployed("2.0", 2, 2)


def test_a_password_stands_in_no_argument(rig, tmp_path):
    spy = tmp_path / "helm"
    spy.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/said\nenv >> {tmp_path}/said\nexec {helm()} "$@"\n')
    spy.chmod(0o700)
    rig.deployer(program=[str(spy)]).deploy(Color.GREEN, "2.0", 1, ONE)
    said = (tmp_path / "said").read_text()
    assert "upgrade --install shop-green" in said
    assert PASSWORD not in said
    assert rig.account.config()["users"][0]["user"]["token"] not in said


def test_a_connection_that_is_missing_refuses_before_anything_is_touched(rig):
    rig.passwords = {}
    with pytest.raises(SecretMissing):
        rig.deployer().deploy(Color.GREEN, "2.0", 1, ONE)
    assert states(rig) == [(1, "deployed")]


def test_a_chart_that_does_not_render_is_refused_before_anything_is_touched(rig):
    with pytest.raises(DeployError, match=r"(?s)upgrade: .*no-such-chart.*; nothing was touched; mend what it names"):
        rig.deployer(chart=str(CHART.with_name("no-such-chart"))).deploy(Color.GREEN, "2.0", 1, ONE)
    assert not [one for one in rig.namespace.list("ConfigMap") if one["metadata"]["name"] == FENCE]


@pytest.mark.parametrize(
    ("printed", "said"),
    [
        (
            r'{"manifest": "kind: Secret\\na: [hunter2"}',
            r"shop: green: the rendered chart is no YAML in line \d; .*see helm t",
        ),
        ("hunter2", r"shop: green: helm upgrade --dry-run printed no JSON; nothing was touched"),
    ],
)
def test_what_helm_would_apply_and_cannot_be_read_is_refused_before_anything_is_touched(rig, tmp_path, printed, said):
    odd = tmp_path / "helm"
    odd.write_text(f"""#!/bin/sh\ncase "$*" in *--dry-run*) echo '{printed}';; *) exec {helm()} "$@";; esac\n""")
    odd.chmod(0o700)
    with pytest.raises(DeployError, match=said) as raised:
        rig.deployer(program=[str(odd)]).deploy(Color.GREEN, "2.0", 1, ONE)
    assert "hunter2" not in str(raised.value)
    assert states(rig) == [(1, "deployed")]
    assert not [one for one in rig.namespace.list("ConfigMap") if one["metadata"]["name"] == FENCE]


def test_a_chart_without_the_colors_deployment_is_refused(rig):
    with pytest.raises(DeployError, match=r"the chart makes no Deployment x-green, but Deployment shop-green"):
        rig.deployer(deployments={"blue": "x-blue", "green": "x-green"}).deploy(Color.GREEN, "2.0", 1, ONE)
    assert states(rig) == [(1, "deployed")]


def test_a_chart_that_would_let_a_role_run_is_refused(rig):
    names = {"worker": {"deployments": {"blue": "w-blue", "green": "w-green"}}}
    values = {"image.tag": "$VERSION", "color": "$COLOR", "worker.name": "w-$COLOR"}

    def deploy(epoch, replicas):
        deployer = rig.deployer(roles=names, set=values | {"worker.replicas": replicas})
        return deployer.deploy(Color.GREEN, "2.0", epoch, f"run@{epoch}")

    with pytest.raises(
        DeployError, match="the chart would let worker run on green at once; nothing was touched; give it 0"
    ):
        deploy(1, 1)
    assert deploy(2, 0) == Deployed("2.0", 2, 2)


def test_no_helm_is_said(rig):
    with pytest.raises(
        DeployError, match=r"no-helm cannot be started: FileNotFoundError; give deploy\.program, a Helm"
    ):
        rig.deployer(program=["/no-helm"]).deploy(Color.GREEN, "2.0", 1, ONE)


def test_what_does_not_come_up_is_taken_back_by_helm_with_what_was_seen_before(rig, log):
    rig.deployer().deploy(Color.GREEN, "1.0", 1, ONE)
    with pytest.raises(DeployError) as raised:
        logging_to(rig, log, ready_within="15s").deploy(Color.GREEN, "missing", 2, TWO)
    said = str(raised.value)
    assert "ImagePullBackOff" in said
    assert "next: ImagePullBackOff: kubectl" in said
    assert image(rig) == "shop:1.0"
    assert states(rig)[-2:] == [(3, "failed"), (4, "deployed")]
    assert "helm revision 4: deployed, shop-0.1.0: Rollback to 2" in log


def test_what_only_the_targets_refuse_is_rolled_back_by_us(rig):
    rig.deployer().deploy(Color.GREEN, "1.0", 1, ONE)
    health = rig.service.health.model_copy(update={"status": 204})
    rig.service = rig.changed(ready_within="8s").model_copy(update={"health": health})
    with pytest.raises(DeployError, match=r"(?s)HTTP 200.*it is rolled back to revision 2"):
        rig.deployer().deploy(Color.GREEN, "2.0", 2, TWO)
    assert image(rig) == "shop:1.0"


def test_a_release_that_was_not_there_is_installed_and_one_that_fails_is_gone(rig):
    rig.helm("uninstall", "shop-green", "--wait")
    with pytest.raises(DeployError):
        rig.deployer(ready_within="8s", ask="pods").deploy(Color.GREEN, "missing", 1, ONE)
    assert rig.deployer().status(Color.GREEN) == Deployed(None, 0, 0)
    assert rig.deployer(ask="pods").deploy(Color.GREEN, "2.0", 2, TWO).ready == 2


def test_the_new_color_has_at_least_as_many_pods_as_the_live_one(rig):
    rig.namespace.kubectl("scale", "deployment/shop-blue", "--replicas=4")
    assert rig.deployer().deploy(Color.GREEN, "2.0", 1, ONE) == Deployed("2.0", 4, 4)
    rig.deployer().retire(Color.GREEN, 1)
    assert rig.of(Color.GREEN)["spec"]["replicas"] == 0
    assert rig.deployer().deploy(Color.GREEN, "3.0", 2, TWO).total == 4


def test_uninstall_takes_the_release_away_and_the_fence_stays(rig):
    rig.deployer(retire="uninstall").retire(Color.GREEN, 3)
    rig.deployer(retire="uninstall").retire(Color.GREEN, 3)
    assert not [one for one in rig.namespace.list("Deployment") if one["metadata"]["name"] == "shop-green"]
    with pytest.raises(DeployFenced, match="epoch 3 of a retire"):
        rig.deployer().deploy(Color.GREEN, "2.0", 2, TWO)


def test_what_a_killed_helm_left_half_way_is_settled_first(rig, log):
    secret = rig.namespace.kubectl("get", "secret", "-l", "owner=helm,name=shop-green", "-o", "name").strip()
    rig.deployer().deploy(Color.GREEN, "1.0", 1, ONE)
    half = threading.Thread(target=lambda: broken_off(rig))
    half.start()
    wait_until(lambda: states(rig)[-1][1].startswith("pending"), 20, "an upgrade under way")
    half.join()
    assert states(rig)[-1] == (3, "pending-upgrade"), secret
    deployer = logging_to(rig, log)
    assert deployer.deploy(Color.GREEN, "2.0", 2, TWO) == Deployed("2.0", 2, 2)
    assert any("helm revision 3: pending-upgrade" in line and "back to revision 2" in line for line in log)


def broken_off(rig):
    """Begin an upgrade that does not come up, and end it as kill -9 does."""
    import subprocess

    words = ["upgrade", "shop-green", str(CHART), "--set", "image.tag=missing", "--set", "color=green", "--wait"]
    config = ["--kubeconfig", str(rig.namespace.plane.kubeconfig), "--namespace", rig.namespace.name]
    process = subprocess.Popen([helm(), *words, *config], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: image(rig) == "shop:missing", 20, "its image")
    finally:
        process.kill()
        process.wait()


def seen_between(monkeypatch):
    """Let the second look at an upgrade under way see what Helm tells between its failure and its own way back."""
    real, pending = Helm.history, []

    def history(self):
        told = real(self)
        if told and told[-1]["status"].startswith("pending"):
            pending.append(told)
            if len(pending) == 2:
                return [*told[:-1], told[-1] | {"status": "failed"}]
        return told

    monkeypatch.setattr(Helm, "history", history)


@pytest.mark.parametrize("between", [False, True])
def test_a_newer_claim_ends_a_helm_that_is_under_way(rig, monkeypatch, between):
    failed = []

    def older():
        try:
            rig.deployer(ready_within="60s").deploy(Color.GREEN, "missing", 1, ONE)
        except DeployError as error:
            failed.append(error)

    thread = threading.Thread(target=older)
    thread.start()
    wait_until(lambda: image(rig) == "shop:missing", 30, "the older one's image")
    if between:
        seen_between(monkeypatch)
    assert rig.deployer().deploy(Color.GREEN, "2.0", 2, TWO) == Deployed("2.0", 2, 2)
    thread.join()
    assert isinstance(failed[0], DeployFenced), failed
    assert "epoch 2 of run-two@2" in str(failed[0])
    assert image(rig) == "shop:2.0"


def test_what_may_not_be_done_is_named_and_nothing_is_touched(rig):
    rules = rig.namespace.get("Role", "bluegreen-deployer-helm")["rules"]
    rig.namespace.patch("Role", "bluegreen-deployer-helm", {"rules": [without_secrets(rule) for rule in rules]})
    said = []

    def refused():
        with pytest.raises(DeployError) as raised:
            rig.deployer().deploy(Color.GREEN, "2.0", 1, ONE)
        said[:] = [str(raised.value)]
        return "cannot list resource" in said[0]

    wait_until(refused, 20, "the rule to be gone")
    assert 'secrets is forbidden: User "system:serviceaccount:' in said[0]
    assert "nothing was touched" in said[0]
    assert states(rig) == [(1, "deployed")]


def without_secrets(rule):
    return rule | {"resources": [one for one in rule["resources"] if one != "secrets"]}


def test_a_token_that_is_over(rig):
    rig.login = rig.account.config(expired=True)
    with pytest.raises(DeployError, match=r"401, the login is not accepted; renew the login"):
        rig.deployer().deploy(Color.GREEN, "2.0", 1, ONE)
    assert "helm history: " in rig.deployer().diagnose(Color.GREEN)


def test_diagnose_begins_with_helms_own_history(rig):
    assert rig.deployer().diagnose(Color.GREEN).startswith("helm revision 1: deployed, shop-0.1.0: Install complete")
