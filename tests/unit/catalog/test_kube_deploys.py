"""What a service file may say of deploys to Kubernetes and Helm, and what is said of what it may not."""

from __future__ import annotations

from pathlib import Path

import pytest

from bluegreen.catalog.load import read_text
from bluegreen.catalog.models import Service
from bluegreen.catalog.section import connections
from bluegreen.catalog.smoke_tests import ExecTest, JobTest, SmokeTest
from bluegreen.core.errors import CatalogError
from tests.unit.catalog.test_bad_files import GOOD
from tests.unit.catalog.test_schema import errors

COMMAND = "  type: command\n  command: [deploy.sh]\n"
KUBE = """\
  type: kubernetes
  cluster: {connection: prod_eu, namespace: shop}
  deployments: {blue: shop-blue, green: shop-green}
  image: registry.example/shop:$VERSION
"""
HELM = """\
  type: helm
  cluster: {namespace: shop}
  deployments: {blue: shop-blue, green: shop-green}
  releases: {blue: shop-blue, green: shop-green}
  chart: charts/shop
  set: {image.tag: $VERSION, replicas: 3}
  secrets: {database.password: shop_db}
"""
ROLES = """\
  roles:
    worker: {deployments: {blue: w-blue, green: w-green}, replicas: 2}
    cron: {cron_jobs: {blue: c-blue, green: c-green}}
"""
SMOKE = "  - path: /health\n"


def text_of(deploy, smoke=SMOKE):
    return GOOD.replace(COMMAND, deploy).replace(SMOKE, smoke)


def read(deploy, smoke=SMOKE):
    return read_text(text_of(deploy, smoke), Path("shop.yaml"))


def refused(deploy, smoke=SMOKE):
    with pytest.raises(CatalogError) as raised:
        read(deploy, smoke)
    return str(raised.value)


@pytest.mark.parametrize("deploy", [KUBE, KUBE + ROLES, HELM, HELM + ROLES])
def test_a_short_section_is_enough_and_survives_being_frozen(deploy):
    service = read(deploy)
    assert Service.model_validate(service.frozen()) == service
    assert errors(text_of(deploy)) == []
    assert (service.deploy.retire, service.deploy.ask) == ("zero", "targets")


def test_every_connection_is_known_to_the_triggerer():
    assert connections(read(KUBE)) == {"prod_eu"}
    assert connections(read(HELM)) == {"shop_db"}


def test_pods_are_more_than_targets_so_they_do_not_bound_what_must_be_healthy():
    assert read_text(text_of(KUBE).replace("lease: 60s", "min_healthy: 9"), Path("shop.yaml")).release.min_healthy == 9


def test_smoke_tests_are_told_apart_by_their_own_key():
    smoke = SMOKE + "  - exec: [/app/smoke-tests.sh]\n  - {job: smoke.yaml, timeout: 10m}\n"
    service = read(KUBE, smoke)
    assert [type(test) for test in service.smoke] == [SmokeTest, ExecTest, JobTest]
    assert Service.model_validate(service.frozen()) == service
    assert errors(text_of(KUBE, smoke)) == []


@pytest.mark.parametrize(
    ("smoke", "said"),
    [
        ("  - exec: []\n", ":25: smoke[0].exec: the list is empty, wanted at least 1 item"),
        ("  - exec: a.sh\n", ":25: smoke[0].exec: found 'a.sh', wanted a list"),
        ("  - exec: [a]\n    pods: two\n", ":26: smoke[0].pods: found 'two', allowed one, all"),
        ("  - exec: [a]\n    path: /\n", ":26: smoke[0].path: unknown key 'path'; allowed keys: container, exec, name"),
        ("  - job: a.yaml\n    timeout: 5\n", ":26: smoke[0].timeout: found 5"),
        ("  - name: x\n", ":25: smoke[0].path: the key 'path' is missing"),
    ],
)
def test_what_is_wrong_with_a_smoke_test_is_said_in_its_own_kinds_words(smoke, said):
    found = refused(KUBE, smoke)
    assert said.partition(": smoke")[2] in found, found
    assert "[ExecTest]" not in found


def test_a_test_inside_needs_a_deployer_that_runs_it():
    assert "exec and job need deploy.type kubernetes or helm, found command" in refused(COMMAND, "  - exec: [a]\n")


@pytest.mark.parametrize(
    ("was", "instead", "said"),
    [
        ("  image: registry.example/shop:$VERSION\n", "", "give image or manifests, one of the two"),
        ("$VERSION\n", "$VERSION\n  manifests: [a.yaml]\n", "give image or manifests, one of the two"),
        ("shop:$VERSION", "shop:latest", "it does not say $VERSION: every release would deploy the same"),
        ("green: shop-green", "green: shop-blue", "blue and green need one of their own each"),
        (", green: shop-green", "", "it needs both colors, blue and green"),
        ("shop-green", "shop_green", "allowed a Kubernetes name"),
        ("  cluster: {connection: prod_eu, namespace: shop}\n", "", "the key 'cluster' is missing"),
        (", namespace: shop", "", "the key 'namespace' is missing"),
        ("$VERSION\n", "$VERSION\n  retire: uninstall\n", "allowed zero, leave"),
        ("$VERSION\n", "$VERSION\n  ask: nobody\n", "allowed targets, pods"),
        ("$VERSION\n", "$VERSION\n  env: {A B: x}\n", "allowed the name of an environment variable"),
        ("$VERSION\n", "$VERSION\n  replicas: 0\n", "allowed 1 or more"),
        ("$VERSION\n", "$VERSION\n  roles: {web: {deployments: {blue: a, green: b}}}\n", "web serves on both colors"),
        ("$VERSION\n", "$VERSION\n  roles: {worker: {}}\n", "give deployments or cron_jobs, one of the two"),
        ("shop:$VERSION", "shop:$VERSIONS", "it does not say $VERSION: every release would deploy the same"),
        ("shop:$VERSION", "shop:$VERSION_amd64", "it does not say $VERSION: every release would deploy the same"),
        (
            "$VERSION\n",
            "$VERSION\n  roles: {cron: {cron_jobs: {blue: a, green: b}, replicas: 2}}\n",
            "replicas is for deployments: take it out",
        ),
    ],
)
def test_what_is_wrong_is_said(was, instead, said):
    assert said in refused(KUBE.replace(was, instead))


@pytest.mark.parametrize(
    ("roles", "said"),
    [
        (
            "w: {deployments: {blue: shop-blue, green: w-green}}",
            "w.deployments.blue is shop-blue, and so is deployments.bl",
        ),
        (
            "w: {deployments: {blue: shop-green, green: shop-blue}}",
            "is shop-green, and so is deployments.green of deploy",
        ),
        (
            "w: {deployments: {blue: a, green: b}}, x: {deployments: {blue: c, green: a}}",
            "x.deployments.green is a, and so is w.deployments.blue: give each role objects of its own",
        ),
        (
            "w: {cron_jobs: {blue: a, green: b}}, x: {cron_jobs: {blue: a, green: c}}",
            "x.cron_jobs.blue is a, and so is w.cron_jobs.blue",
        ),
    ],
)
@pytest.mark.parametrize("deploy", [KUBE, HELM])
def test_a_role_has_objects_of_its_own_as_the_switch_stops_them(deploy, roles, said):
    found = refused(f"{deploy}  roles: {{{roles}}}\n")
    assert found.startswith("shop.yaml:")
    assert "deploy.roles: " in found
    assert said in found


def test_a_timetable_may_have_the_name_of_what_it_belongs_to():
    assert read(f"{KUBE}  roles: {{cron: {{cron_jobs: {{blue: shop-blue, green: shop-green}}}}}}\n").deploy.roles


@pytest.mark.parametrize("image", ["shop:$VERSION", "shop:${VERSION}", "shop:${VERSION}_amd64", "shop:$VERSION-amd64"])
def test_a_version_is_said_in_each_way_that_is_replaced(image):
    assert read(KUBE.replace("registry.example/shop:$VERSION", image)).deploy.image == image


def test_env_goes_with_an_image():
    manifests = KUBE.replace("  image: registry.example/shop:$VERSION\n", "  manifests: [a.yaml]\n")
    assert read(manifests).deploy.manifests == (Path("a.yaml"),)
    assert "env, config and container go with image" in refused(manifests + "  env: {A: b}\n")


@pytest.mark.parametrize(
    ("was", "instead", "said"),
    [
        ("$VERSION", "'1'", "nothing says $VERSION: every release would deploy the same; give it in set"),
        ("  chart: charts/shop\n", "", "the key 'chart' is missing"),
        ("image.tag", "image..tag", "allowed the path of a value with dots, like image.tag"),
        ("  releases: {blue: shop-blue, green: shop-green}\n", "", "the key 'releases' is missing"),
        ("image.tag: $VERSION", "image.tag: $VERSIONS", "nothing says $VERSION: every release would deploy the same"),
        (
            "image.tag: $VERSION",
            "image: {tag: $VERSION}",
            "deploy.set: image holds keys of its own, wanted one value a path: write image.tag: …",
        ),
        (
            "replicas: 3",
            "replicas: [3]",
            "deploy.set: replicas is no single value, wanted a text, a number, true or fal",
        ),
        (
            "replicas: 3",
            "replicas: null",
            "deploy.set: replicas is no single value, wanted a text, a number, true or fal",
        ),
        (
            "replicas: 3",
            "image: x",
            "set.image and set.image.tag give the same value, or one inside the other: take one",
        ),
        ("database.password", "image", "secrets.image and set.image.tag give the same value, or one inside the other"),
        ("database.password", "image.tag", "set.image.tag and secrets.image.tag give the same value, or one inside"),
        ("shop_db", "hunter 2", "allowed the id of an Airflow connection"),
    ],
)
def test_what_is_wrong_with_a_chart_is_said(was, instead, said):
    found = refused(HELM.replace(was, instead))
    assert said in found
    assert "hunter" not in found
