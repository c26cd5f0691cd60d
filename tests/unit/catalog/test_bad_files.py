"""Each thing that may be wrong with a service file, and the exact sentence that it must print."""

import pytest

from bluegreen.catalog.load import load_file
from bluegreen.core.errors import CatalogError

GOOD = """\
service: shop
description: The shop
tags: [demo]
entry:
  url: http://lb1:8080
router:
  type: haproxy
  nodes:
    - name: lb1
      socket: lb1:9999
      map: /etc/haproxy/shop.map
      entry: lb1:8080
  backends: {blue: shop-blue, green: shop-green}
colors:
  blue: {targets: [http://b1]}
  green: {targets: [http://g1]}
health:
  status: 200
deploy:
  type: command
  command: [deploy.sh]
prewarm:
  paths: [/]
smoke:
  - path: /health
release:
  canary:
    - share: 10
  lease: 60s
  rules:
    - {type: threshold, metric: error_rate, max: 5}
"""

# what it is called: (what stands in GOOD, what stands instead, what is said after the file's name)
BAD = {
    "a role that is none": (
        "  command: [deploy.sh]\n",
        "  command: [deploy.sh]\n  roles: {web: {start: [a], stop: [b]}}\n",
        ":22: deploy.roles: web serves on both colors and starts at deploy, so it is no role here: leave it out",
    ),
    "a role that is never stopped": (
        "  command: [deploy.sh]\n",
        "  command: [deploy.sh]\n  roles: {worker: {start: [a]}}\n",
        ":22: deploy.roles.worker.stop: the key 'stop' is missing; add stop: …",
    ),
    "more healthy servers than there are": (
        "  lease: 60s\n",
        "  min_healthy: 2\n",
        ":26: release: min_healthy is 2, but a color has 1 targets only",
    ),
    "misspelt key": (
        "      socket: lb1",
        "      soket: lb1",
        (
            ":10: router.nodes[0].soket: unknown key 'soket'; did you mean 'socket'? "
            "allowed keys: config, entry, file, map, name, socket, ssh"
        ),
    ),
    "a map file here and over SSH": (
        "      map: /etc/haproxy/shop.map\n",
        "      map: /etc/haproxy/shop.map\n      file: /mnt/shop.map\n      ssh: {host: lb1}\n",
        (":13: router.nodes[0].ssh: with ssh the map file is written on that host: take `file` out"),
    ),
    "a login in the SSH host": (
        "      socket: lb1:9999\n",
        "      socket: lb1:9999\n      ssh: {host: deploy@lb1}\n",
        ":11: router.nodes[0].ssh.host: found 'deploy@lb1', allowed what matches ^[A-Za-z0-9_:][A-Za-z0-9_.:%-]*$",
    ),
    "unknown key": (
        "tags: [demo]",
        "zzz: 1",
        (
            ":3: zzz: unknown key 'zzz'; allowed keys: colors, deploy, description, entry, evidence, health, migrations,"
            " notify, owner, prewarm, release, router, service, sessions, smoke, sources, state, tags"
        ),
    ),
    "missing key": (
        "      socket: lb1:9999\n",
        "",
        (
            ":9: router.nodes[0].socket: the key 'socket' is missing; add socket: stats socket at level admin: a path on "
            "this host, or host:port, like /run/haproxy/admin.sock"
        ),
    ),
    "missing section": (
        "entry:\n  url: http://lb1:8080\n",
        "",
        (
            ":1: entry: the key 'entry' is missing; add entry: The address that users reach the service by, through the "
            "router."
        ),
    ),
    "missing key that explains itself nowhere": (
        "colors:\n  blue: {targets: [http://b1]}\n  green: {targets: [http://g1]}\n",
        "",
        ":1: colors: the key 'colors' is missing; add colors: …",
    ),
    "duration that is too short": (
        "  lease: 60s",
        "  lease: 1ms",
        ":29: release.lease: found '1ms', allowed greater than or equal to 1 second",
    ),
    "held for too long": (
        "  lease: 60s",
        "  approvals: {before_switch: {deadline: 5h}}",
        ":29: release.approvals.before_switch.deadline: found '5h', allowed less than or equal to 4 hours",
    ),
    "asked at an unknown place": (
        "  lease: 60s",
        "  approvals: {before_swich: {}}",
        (
            ":29: release.approvals.before_swich: unknown key 'before_swich'; did you mean 'before_switch'? "
            "allowed keys: before_canary, before_switch, unknown"
        ),
    ),
    "unknown way to stand side by side": (
        "  lease: 60s",
        "  concurrent: parallel",
        ":29: release.concurrent: found 'parallel', allowed queue, refuse, supersede",
    ),
    "unknown kind": (
        "type: haproxy",
        "type: hapoxy",
        ":6: router.type: found 'hapoxy', allowed gateway_api, haproxy, istio, kube_service, nginx; did you mean 'haproxy'?",
    ),
    "no kind": (
        "  type: haproxy\n",
        "",
        ":6: router.type: the key 'type' is missing; allowed gateway_api, haproxy, istio, kube_service, nginx",
    ),
    "kind is a number": (
        "type: haproxy",
        "type: 5",
        ":6: router.type: found 5, allowed gateway_api, haproxy, istio, kube_service, nginx",
    ),
    "no mapping": (
        "health:\n  status: 200",
        "health: fine",
        ":17: health: found 'fine', wanted keys with values; indent its keys below it",
    ),
    "union that is no mapping": (
        "  type: command\n  command: [deploy.sh]",
        "  - deploy.sh",
        ":19: deploy: found a list, wanted keys with values; indent its keys below it",
    ),
    "colors are no mapping": (
        "backends: {blue: shop-blue, green: shop-green}",
        "backends: 5",
        ":13: router.backends: found 5, wanted keys with values; indent its keys below it",
    ),
    "no list": ("[demo]", "demo", ":3: tags: found 'demo', wanted a list; begin each item with a dash: - …"),
    "empty list": (
        "command: [deploy.sh]",
        "command: []",
        ":21: deploy.command: the list is empty, wanted at least 1 item",
    ),
    "empty text": (
        "name: lb1",
        'name: ""',
        ":9: router.nodes[0].name: the text is empty, wanted at least 1 character",
    ),
    "wrong choice": (
        "metric: error_rate",
        "metric: error_rat",
        ":31: release.rules[0].metric: found 'error_rat', allowed error_rate, latency_ms; did you mean 'error_rate'?",
    ),
    "far-off choice": (
        "max: 5}",
        "max: 5, no_data: whatever}",
        ":31: release.rules[0].no_data: found 'whatever', allowed fail, hold, ignore",
    ),
    "unknown color": (
        "green: shop-green",
        "red: shop-red",
        ":13: router.backends.red: found 'red', allowed blue, green",
    ),
    "too much": ("share: 10", "share: 101", ":28: release.canary[0].share: found 101, allowed 1 to 99"),
    "too little": ("max: 5}", "max: -1}", ":31: release.rules[0].max: found -1, allowed 0 or more"),
    "yes where a number is wanted": (
        "share: 10",
        "share: yes",
        ":28: release.canary[0].share: found yes, wanted a whole number; write it without quotes and unit",
    ),
    "a quoted number": (
        "share: 10",
        'share: "10"',
        ":28: release.canary[0].share: found '10', wanted a whole number; write it without quotes and unit",
    ),
    "an octal number": (
        "status: 200",
        "status: 0200",
        ":18: health.status: found '0200', wanted a whole number; write it without quotes and unit",
    ),
    "half a request": (
        "paths: [/]",
        "paths: [/]\n  requests: 1.5",
        ":24: prewarm.requests: found 1.5, wanted a whole number; write it without quotes and unit",
    ),
    "infinite": (
        "max: 5}",
        "max: .inf}",
        ":31: release.rules[0].max: found .inf, wanted a number; write it without quotes and unit",
    ),
    "not a number": (
        "max: 5}",
        "max: .nan}",
        ":31: release.rules[0].max: found .nan, wanted a number; write it without quotes and unit",
    ),
    "yes where a text is wanted": (
        "description: The shop",
        "description: yes",
        ':2: description: found yes, which YAML reads as true or false, wanted a text; put it in quotes: "yes"',
    ),
    "a number where a text is wanted": (
        "description: The shop",
        "description: 1.10",
        ':2: description: found 1.10, which YAML reads as a number, wanted a text; put it in quotes: "1.10"',
    ),
    "a number where a path is wanted": (
        "map: /etc/haproxy/shop.map",
        "map: 5",
        ':11: router.nodes[0].map: found 5, which YAML reads as a number, wanted a text; put it in quotes: "5"',
    ),
    "nothing where a text is wanted": (
        "description: The shop",
        "description:",
        ":2: description: found nothing, wanted a text; write a text, or take the key out",
    ),
    "a duration without unit": (
        "lease: 60s",
        "lease: 60",
        ":29: release.lease: found 60, a duration is a whole number with a unit, like 500ms, 30s, 5m, 24h or 1h30m",
    ),
    "a duration with a wrong unit": (
        "lease: 60s",
        "lease: 1 week",
        ":29: release.lease: found '1 week', a duration is a whole number with a unit, like 500ms, 30s, 5m, 24h or 1h30m",
    ),
    "a duration of many digits": (
        "lease: 60s",
        "lease: 9999999999s",
        ":29: release.lease: found '9999999999s', a duration has at most 9 digits before a unit",
    ),
    "a duration without end": (
        "lease: 60s",
        "lease: 999999999d999999999d",
        ":29: release.lease: found '999999999d999999999d', a duration is at most 999999999d",
    ),
    "a bad name": (
        "service: shop",
        "service: Shop!",
        (
            ":1: service: found 'Shop!', allowed a name of lower-case letters, digits and dashes that begins with a letter,"
            " at most 41"
        ),
    ),
    "no port": (
        "entry: lb1:8080",
        "entry: lb1",
        ":12: router.nodes[0].entry: found 'lb1', allowed a text like 10.0.0.5:443",
    ),
    "no path": (
        "- path: /health",
        "- path: health",
        ":25: smoke[0].path: found 'health', allowed a path that begins with /",
    ),
    "not http": (
        "url: http://lb1:8080",
        "url: ftp://lb1",
        ":5: entry.url: found 'ftp://lb1', wanted an address like http://10.0.1.11:8080",
    ),
    "no host": (
        "[http://b1]",
        "['http://']",
        ":15: colors.blue.targets[0]: found 'http://', wanted an address like http://10.0.1.11:8080",
    ),
    "one color only": (
        "  green: {targets: [http://g1]}\n",
        "",
        ":14: colors: colors needs both, blue and green",
    ),
    "a target in both": (
        "[http://g1]",
        "[http://b1]",
        ":14: colors: a target belongs to one color only, found http://b1 in both",
    ),
    "a backend of one color only": (
        "{blue: shop-blue, green: shop-green}",
        "{blue: shop-blue}",
        ":13: router.backends: backends needs both colors, blue and green",
    ),
    "an address without end": (
        "url: http://lb1:8080",
        "url: http://lb1:8080/" + "x" * 2100,
        f":5: entry.url: found 'http://lb1:8080/{'x' * 44}…': URL should have at most 2083 characters",
    ),
    "nothing where a number is wanted": (
        "status: 200",
        "status:",
        ":18: health.status: found nothing, wanted a whole number; write it without quotes and unit",
    ),
    "keys where a text is wanted": (
        "description: The shop",
        "description: {a: b}",
        ":2: description: found keys with values, wanted a text; write a text, or take the key out",
    ),
    "one backend for both": (
        "green: shop-green",
        "green: shop-blue",
        ":13: router.backends: blue and green need backends of their own",
    ),
    "shares that do not grow": (
        "    - share: 10\n",
        "    - share: 10\n    - share: 10\n",
        ":27: release.canary: canary shares must grow, found [10, 10]",
    ),
    "a node twice": (
        "  backends:",
        "    - {name: lb1, socket: x, map: /x, entry: 'lb2:80'}\n  backends:",
        ":8: router.nodes: node names must differ",
    ),
    "a key twice": (
        "  lease: 60s",
        "  lease: 60s\n  lease: 90s",
        ":30: release.lease: the key 'lease' stands twice, first in line 29; YAML would silently take the last: keep one",
    ),
    "a password": (
        "  url: http://lb1:8080",
        "  url: http://lb1:8080\n  password: hunter2",
        (
            ":6: entry.password: a secret in a service file; "
            "secrets only by connection id (entry.connection, deploy.secrets): take it out, and change it"
        ),
    ),
    "a password in an address": (
        "url: http://lb1:8080",
        "url: http://me:hunter2@lb1:8080",
        (
            ":5: entry.url: a secret in a service file; "
            "secrets only by connection id (entry.connection, deploy.secrets): take it out, and change it"
        ),
    ),
    "a token in a command": (
        "[deploy.sh]",
        "[deploy.sh, --api-token=hunter2]",
        (
            ":21: deploy.command[1]: a secret in a service file; "
            "secrets only by connection id (entry.connection, deploy.secrets): take it out, and change it"
        ),
    ),
    "a header that logs in": (
        "- path: /health",
        "- path: /health\n    headers: {Authorization: hunter2}",
        (
            ":26: smoke[0].headers.Authorization: a secret in a service file; "
            "secrets only by connection id (entry.connection, deploy.secrets): take it out, and change it"
        ),
    ),
    "a secret instead of its connection": (
        "  command: [deploy.sh]",
        "  command: [deploy.sh]\n  secrets: {DB_PASSWORD: hunter2!}",
        ":22: deploy.secrets.DB_PASSWORD: found something else, allowed the id of an Airflow connection",
    ),
    "a tab": ("  url: http://lb1:8080", "\turl: http://lb1:8080", ":5: a tab; YAML is indented with spaces only"),
    "a broken line": (
        "description: The shop",
        "description: The: shop",
        ":2: no valid YAML: mapping values are not allowed in this context; look at this line and the one above",
    ),
    "a bracket left open": (
        "tags: [demo]",
        "tags: [demo",
        (
            ":4: no valid YAML: while parsing a flow sequence, did not find expected ',' or ']'; "
            "look at this line and the one above"
        ),
    ),
    "two documents": (
        "health:\n",
        "---\nhealth:\n",
        ":17: a second document begins here; one service a file: take the --- line out",
    ),
    "an unknown alias": (
        "description: The shop",
        "description: *shop",
        ":2: no valid YAML: found undefined alias; look at this line and the one above",
    ),
    "a tag": (
        "description: The shop",
        "description: !vault x",
        ":2: description: the tag !vault is not allowed; take it out",
    ),
    "a wrong core tag": (
        "description: The shop",
        "description: !!int abc",
        ": no valid YAML: a value does not fit its tag; take its !! tags out",
    ),
    "a list as a key": (
        "description: The shop",
        "? [a]\n: b",
        ":2: found a list as a key, wanted a text; write a plain word",
    ),
    "an endless alias": (
        "tags: [demo]",
        "tags: &a [*a]",
        ": its anchors and aliases never end; write out what an alias repeats",
    ),
    "a control character": (
        "description: The shop",
        "description: \x07",
        ":2: a control character; take it out; a text editor may not show it",
    ),
    "another file's name": (
        "service: shop",
        "service: cart",
        ":1: service: found 'cart' in a file that is called shop.yaml; rename the file to cart.yaml, or write service: shop",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_says_what_to_do(tmp_path, name):
    good, bad, sentence = BAD[name]
    assert GOOD.count(good) == 1, "the case no longer fits the good file"
    assert said(tmp_path, GOOD.replace(good, bad)) == [sentence]


WHOLE = {
    "empty": ("", ": the file is empty; write a service, or delete it; bluegreen init makes one"),
    "only a comment": ("# shop\n", ": the file is empty; write a service, or delete it; bluegreen init makes one"),
    "a list": ("\n- shop\n", ":2: found a list, wanted keys with values; begin with service: <name>"),
    "one word": ("shop\n", ":1: found 'shop', wanted keys with values; begin with service: <name>"),
    "a billion laughs": (
        "a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1]\n"
        + "".join(
            f"{b}: &{b} [*{a}, *{a}, *{a}, *{a}, *{a}, *{a}, *{a}]\n" for a, b in zip("abcdef", "bcdefg", strict=True)
        ),
        ": its anchors and aliases never end; write out what an alias repeats",
    ),
}


@pytest.mark.parametrize("name", WHOLE)
def test_a_file_that_is_no_service_at_all(tmp_path, name):
    text, sentence = WHOLE[name]
    assert said(tmp_path, text) == [sentence]


def test_a_file_that_is_not_utf8(tmp_path):
    (tmp_path / "shop.yaml").write_bytes(GOOD.encode().replace(b"The shop", b"caf\xe9"))
    with pytest.raises(CatalogError) as error:
        load_file(tmp_path / "shop.yaml")
    assert str(error.value) == f"{tmp_path}/shop.yaml:2: not UTF-8; save it as UTF-8"


def test_nesting_without_end_is_an_error_and_no_crash(tmp_path):
    (sentence,) = said(tmp_path, "a: " + "[" * 5000 + "]" * 5000)
    assert "nested too deeply" in sentence or "depth" in sentence


def test_all_problems_of_a_file_are_told_in_the_order_of_their_lines(tmp_path):
    text = GOOD.replace("share: 10", "share: 101").replace("tags: [demo]", "tag: [demo]").replace("60s", "60")
    assert [sentence.split(":")[1] for sentence in said(tmp_path, text)] == ["3", "28", "29"]


def test_several_problems_are_one_error_whose_text_lists_all(tmp_path):
    path = tmp_path / "shop.yaml"
    path.write_text(GOOD.replace("share: 10", "share: 101").replace("max: 5", "max: -1"))
    with pytest.raises(CatalogError) as error:
        load_file(path)
    assert str(error.value) == (
        f"{path}: 2 problems\n"
        f"  {path}:28: release.canary[0].share: found 101, allowed 1 to 99\n"
        f"  {path}:31: release.rules[0].max: found -1, allowed 0 or more"
    )
    assert [problem.key for problem in error.value.problems] == ["release.canary[0].share", "release.rules[0].max"]


def test_a_list_whose_items_are_all_wrong_is_not_called_empty(tmp_path):
    text = GOOD.replace("metric: error_rate", "metric: x")
    assert len(said(tmp_path, text)) == 1


def test_the_value_of_a_secret_is_never_shown(tmp_path):
    text = GOOD.replace(
        "  url: http://lb1:8080", "  url: ftp://me:hunter2@lb1\n  api_token: {a: hunter2, b: [hunter2]}"
    )
    text = text.replace("description: The shop", "description: [http://me:hunter2@lb1]")
    assert "hunter2" not in "".join(said(tmp_path, text))


def test_an_alias_does_not_show_it_either(tmp_path):
    text = GOOD.replace("[demo]", "[&it http://me:hunter2@lb1]").replace("health:\n  status: 200", "health: *it")
    sentences = said(tmp_path, text)
    assert [sentence.split(": ")[1] for sentence in sentences] == ["tags[0]", "health"]
    assert "hunter2" not in "".join(sentences)


def test_a_long_value_is_cut(tmp_path):
    (sentence,) = said(tmp_path, GOOD.replace("[demo]", "x" * 500))
    assert len(sentence) < 160


def said(folder, text):
    """What is said after the file's name, one entry a problem."""
    path = folder / "shop.yaml"
    path.write_text(text)
    with pytest.raises(CatalogError) as error:
        load_file(path)
    return [str(problem).removeprefix(str(path)) for problem in error.value.problems]
