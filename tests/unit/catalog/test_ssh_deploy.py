"""What a service file may say of deploys over SSH, and what is said of what it may not."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from bluegreen.catalog.load import read_text
from bluegreen.catalog.models import Service
from bluegreen.core.colors import Color
from bluegreen.core.errors import CatalogError
from tests.unit.catalog.test_bad_files import GOOD
from tests.unit.catalog.test_schema import errors

ROOT = Path(__file__).parents[3]
COMMAND = "  type: command\n  command: [deploy.sh]\n"
SSH = """\
  type: ssh
  hosts: {blue: [b1, "b2:2222"], green: [g1, "[::1]:22"]}
  restart: [systemctl, restart, shop]
"""


def read(deploy, **targets):
    text = GOOD.replace(COMMAND, deploy)
    for color, found in targets.items():
        text = text.replace(f"{color}: {{targets: [http://{color[0]}1]}}", f"{color}: {{targets: [{found}]}}")
    return read_text(text, Path("shop.yaml"))


def refused(deploy, **targets):
    with pytest.raises(CatalogError) as raised:
        read(deploy, **targets)
    return str(raised.value)


def test_a_short_section_is_enough():
    service = read(SSH)
    assert service.deploy.hosts[Color.BLUE] == ("b1", "b2:2222")
    assert (service.deploy.order, service.deploy.max_parallel, service.deploy.sudo) == ("parallel", 10, False)
    assert Service.model_validate(service.frozen()) == service
    assert errors(GOOD.replace(COMMAND, SSH)) == []


def test_the_examples_other_deploy_section_is_good():
    lines = (ROOT / "include/services/shop.yaml").read_text().splitlines()
    begin = lines.index("# deploy:")
    text = "\n".join(line.removeprefix("# ") for line in lines[begin : lines.index("", begin)])
    colors = {"blue": {"targets": ["http://10.0.1.11", "http://10.0.1.12"]}}
    colors["green"] = {"targets": ["http://10.0.2.11", "http://10.0.2.12"]}
    assert Service.model_validate(yaml.safe_load(GOOD) | yaml.safe_load(text) | {"colors": colors}).deploy.sudo


def test_targets_belong_to_the_host_that_their_url_names_or_that_names_them():
    deploy = read(SSH + "  targets: {b1: [http://x:1, http://x:2]}\n", blue="http://x:1, http://b2:80").deploy
    targets = ("http://x:1", "http://b2:80")
    assert deploy.targets_of("b1", targets) == ("http://x:1",)
    assert deploy.targets_of("b2:2222", targets) == ("http://b2:80",)
    assert deploy.unmatched(Color.BLUE, targets) == []
    assert deploy.unmatched(Color.GREEN, ("http://g1",)) == ["[::1]:22"]


def test_rolling_needs_a_host_for_each_target_and_a_target_for_each_host():
    rolling = SSH + "  order: rolling\n"
    assert read(rolling, blue="http://b1, http://b2", green='http://g1, "http://[::1]:80"').deploy.order == "rolling"
    said = refused(rolling, blue="http://b1, http://b3")
    assert "of blue these have no match or several: b2:2222, http://b3; give deploy.targets, or order: parallel" in said
    two_on_one = rolling.replace("b1, ", '"b2:22", ')
    assert "http://b2" in refused(two_on_one, blue="http://b2")


@pytest.mark.parametrize(
    ("was", "instead", "said"),
    [
        ("[b1, ", "[b1, b1, ", "blue needs at least one host, each named once, found b1, b1, b2:2222"),
        ('{blue: [b1, "b2:2222"], ', "{", "blue needs at least one host, each named once, found none"),
        ("b2:2222", "b2:99999", "found b2:99999, a port is 65535 at most"),
        ("b2:2222", "deploy@b2", "allowed a host like 10.0.1.11 or web1, or one with a port, like web1:2222"),
        ("  restart: [systemctl, restart, shop]\n", "", "nothing is deployed: give upload, commands or restart"),
        ("shop]\n", "shop]\n  targets: {b3: [http://b1]}\n", "targets names b3, allowed are the hosts [::1]:22, b1"),
        ("shop]\n", "shop]\n  upload: [{from: /a, to: b}]\n", "allowed a path that begins with / or ~/"),
        ("shop]\n", "shop]\n  upload: [{from: /a, to: /b, mode: 420}]\n", 'put it in quotes: "420"'),
        ("shop]\n", "shop]\n  upload: [{from: /a, to: /b, mode: '9'}]\n", 'allowed a file mode in quotes, like "0640"'),
        ("shop]\n", "shop]\n  commands: [systemctl]\n", "wanted a list"),
        ("shop]\n", "shop]\n  order: random\n", "allowed parallel, rolling"),
    ],
)
def test_what_is_wrong_is_said(was, instead, said):
    assert said in refused(SSH.replace(was, instead))
