"""An existing configuration, first of all the guide's own, to the letter: what is read of it, and what is added."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from bluegreen.catalog.load import load_file
from bluegreen.cli.main import main
from demo.haproxy import check_config, haproxy_binary
from demo.nginx import nginx_binary
from tests.unit.routers.conftest import nginx_router_of, router_of

GUIDE = Path(__file__).resolve().parents[3] / "benchmarks" / "guide"
SERVERS = {color: [f"http://192.168.{n}.10{i}:8080" for i in (1, 2, 3)] for n, color in ((1, "blue"), (2, "green"))}


class Place:
    """A folder with a proxy's configuration in it and a catalog."""

    def __init__(self, folder: Path, capsys: Any) -> None:
        self.folder, self.capsys = folder, capsys
        (folder / "services").mkdir()

    def put(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.write_text(text)
        return path

    def run(self, *words: str) -> tuple[int, str, str]:
        code = main(["--services", str(self.folder / "services"), *words])
        said = self.capsys.readouterr()
        return code, said.out, said.err

    def init(self, path: Path, *words: str) -> Any:
        code, _, err = self.run("init", "pay", "--config", str(path), "--entry", "https://pay.example", *words)
        assert code == 0, err
        return load_file(self.folder / "services" / "pay.yaml")

    def patched(self, live: str = "blue") -> str:
        """Apply what `lines --patch` prints as its help says, and return it."""
        code, text, err = self.run("lines", "pay", "--patch", "--live", live)
        assert code == 0, err
        done = subprocess.run(
            ["patch", "-d", "/", "-p0"], input=text, text=True, capture_output=True, check=False, timeout=10
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return text


@pytest.fixture
def place(tmp_path: Path, capsys: Any) -> Place:
    return Place(tmp_path, capsys)


def guide(name: str, place: Place) -> Path:
    """The guide's file; only certificates and ports below 1024 are not to be had here."""
    text = (GUIDE / name).read_text()
    if name == "nginx.conf":
        place.put("backend.map", '"" blue_backend;\n')
        return place.put(name, text.replace("/etc/nginx/backend.map", str(place.folder / "backend.map")))
    return place.put(name, text)


@pytest.mark.parametrize(
    ("name", "backends", "ports"),
    [
        ("haproxy.cfg", ("blue-backend", "green-backend"), "127.0.0.1:443"),
        ("nginx.conf", ("blue_backend", "green_backend"), "127.0.0.1:443"),
    ],
)
def test_init_reads_the_guides_file(place: Place, name: str, backends: tuple[str, str], ports: str) -> None:
    path = guide(name, place)
    service = place.init(path)
    assert tuple(service.router.backends.values()) == backends
    assert {color: list(service.colors[color].targets) for color in SERVERS} == SERVERS
    (node,) = service.router.nodes
    assert (node.config, node.entry, service.health.path) == (path, ports, "/health")


def test_the_guides_haproxy_cfg_with_the_lines_is_what_haproxy_takes_and_has_nothing_more_to_add(place: Place) -> None:
    path = guide("haproxy.cfg", place)
    place.init(path)
    text = place.patched()
    assert "-    use_backend %[path,map(/etc/haproxy/backend.map,blue-backend)]" in text
    assert (place.folder / "bluegreen/pay.map").read_text() == "green 0\n"
    here = path.read_text().replace(" ssl crt /etc/haproxy/certs/site.pem", "").replace("/dev/log", "127.0.0.1")
    check_config(haproxy_binary(), place.put("tried.cfg", here))
    assert place.run("lines", "pay", "--patch", "--live", "blue") == (0, "", "pay: nothing to add\n")


def test_the_guides_nginx_conf_with_the_lines_is_what_nginx_takes_and_has_nothing_more_to_add(place: Place) -> None:
    path = guide("nginx.conf", place)
    place.init(path)
    node = yaml.safe_load((place.folder / "services/pay.yaml").read_text())["router"]["nodes"][0]
    text = place.patched()
    assert "-            proxy_pass http://$backend;" in text
    assert "split=100%2F0" in Path(node["include"]).read_text()
    here = path.read_text().replace(node["log"], str(place.folder / "pay.log"))
    for old in ("listen 443 ssl http2;", "ssl_certificate /etc", "ssl_certificate_key /etc"):
        here = here.replace(old, f"# {old}")
    done = subprocess.run(
        [nginx_binary(), "-t", "-p", str(place.folder), "-c", str(place.put("tried.conf", here))],
        capture_output=True, text=True, check=False, timeout=10,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert place.run("lines", "pay", "--patch", "--live", "blue") == (0, "", "pay: nothing to add\n")


def test_the_color_that_is_live_keeps_the_traffic(place: Place) -> None:
    place.init(guide("haproxy.cfg", place))
    place.patched("green")
    assert (place.folder / "bluegreen/pay.map").read_text() == "green 100\n"


def test_a_map_that_is_there_is_left_alone(place: Place) -> None:
    place.init(guide("haproxy.cfg", place))
    (place.folder / "bluegreen").mkdir()
    place.put("bluegreen/pay.map", "green 10\n")
    assert "pay.map\n" not in place.patched()
    assert (place.folder / "bluegreen/pay.map").read_text() == "green 10\n"


SHARED = """\
global
    stats socket unix@/run/haproxy/own.sock user haproxy level admin
    hard-stop-after 5m
defaults
    mode http
    option idle-close-on-response
frontend web
    bind :8443 ssl crt x.pem
    acl pay hdr(host) -i pay.example
    use_backend other if { path_beg /other }
    use_backend pay-blue if pay # ours
    default_backend other
backend other
    server o 10.0.0.9:80 check
backend pay-blue
    option httpchk GET /up
    http-response set-header X-Release-Color blue
    default-server check
    server one 10.0.0.1:80
backend pay-green
    http-response set-header X-Release-Color green
    server two 10.0.0.2:80 ssl verify none
"""


def test_a_frontend_with_other_services_keeps_them_and_only_what_is_missing_is_added(place: Place) -> None:
    service = place.init(place.put("haproxy.cfg", SHARED))
    (node,) = service.router.nodes
    assert (node.socket, node.entry, service.health.path) == ("/run/haproxy/own.sock", "127.0.0.1:8443", "/up")
    assert service.colors["green"].targets == ("https://10.0.0.2:80",)
    text = place.patched()
    changed = [line for line in text.splitlines() if line[:1] in "+-" and line[:3] not in ("+++", "---")]
    assert changed == [
        f"+    http-request set-var(txn.pay_green) str(green),map_str_int({node.map},0)",
        "+    http-request set-var(txn.pay_draw) rand(100)",
        "-    use_backend pay-blue if pay # ours",
        "+    use_backend pay-green if pay { var(txn.pay_draw),sub(txn.pay_green) lt 0 }",
        "+    use_backend pay-blue if pay",
        "-    server two 10.0.0.2:80 ssl verify none",
        "+    server two 10.0.0.2:80 ssl verify none check",
        "+    option httpchk GET /up",
        "+green 0",
    ]


@pytest.mark.parametrize(
    ("old", "new", "words", "said"),
    [
        ("backend pay-green", "backend green-too\n    server x 1.1.1.1:80\nbackend pay-green", (),
         "2 backends have green in their name: it has other, pay-blue, green-too, pay-green; name both: --backends"),
        ("pay-green", "candidate", (), "0 backends have green in their name"),
        ("x", "x", ("--backends", "pay-blue,nothere"), "there is no backend nothere: it has other, pay-blue, pay-green"),
        ("x", "x", ("--backends", "pay-blue"), "--backends: found 'pay-blue'; write two names: BLUE,GREEN"),
    ],
)  # fmt: skip
def test_init_does_not_guess(place: Place, old: str, new: str, words: tuple[str, ...], said: str) -> None:
    path = place.put("haproxy.cfg", SHARED.replace(old, new))
    code, _, err = place.run("init", "pay", "--config", str(path), "--entry", "https://pay.example", *words)
    assert code == 2
    assert said in err
    assert list((place.folder / "services").iterdir()) == []


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("if pay # ours", "if pay or { path_beg /pay }", "haproxy.cfg:11: `use_backend pay-blue if pay or"),
        ("if pay # ours", "unless pay", "its condition cannot be added to; nothing was written; add by hand"),
        ("use_backend pay-blue", "use_backend other", "no frontend sends requests to pay-blue or pay-green; nothing"),
    ],
)
def test_lines_that_cannot_be_placed_are_refused(place: Place, old: str, new: str, said: str) -> None:
    path = place.put("haproxy.cfg", SHARED)
    place.init(path)
    path.write_text(SHARED.replace(old, new))
    code, out, err = place.run("lines", "pay", "--patch", "--live", "blue")
    assert (code, out) == (2, "")
    assert said in err


def test_the_patch_asks_who_is_live_and_where_the_file_is(place: Place) -> None:
    place.init(place.put("haproxy.cfg", SHARED))
    assert place.run("lines", "pay", "--patch")[2] == (
        "bluegreen: --live: which color has the traffic now?; say --live blue, or green\n"
    )
    file = place.folder / "services/pay.yaml"
    file.write_text("".join(f"{line}\n" for line in file.read_text().splitlines() if " config: " not in line))
    assert (
        "pay: router.nodes[0].config: the node's own configuration is not named; name it, or add by hand"
        in (place.run("lines", "pay", "--patch", "--live", "blue")[2])
    )


NGINX = """\
worker_shutdown_timeout 10s;
events { }
http
{
    include conf.d/*.conf;
}
"""
SITE = """\
upstream blue { server 10.0.0.1; }
upstream green { server 10.0.0.2:81; }
server {
    listen 8080;
    add_header X-Frame-Options "DENY; really" always;
    access_log logs/own.log combined;
    location /api/ { proxy_pass http://other; }
    location / {
        proxy_pass http://blue; # today
    }
}
"""


def site(place: Place, nginx: str | Path = "") -> Any:
    """A service behind an nginx whose sites are files of their own; ``nginx`` is asked for its version."""
    (place.folder / "conf.d").mkdir()
    place.put("conf.d/pay.conf", SITE)
    place.init(place.put("nginx.conf", NGINX), "--entry", "http://pay.example")
    file = place.folder / "services/pay.yaml"
    file.write_text(
        file.read_text().replace("      config:", f"      command: [{nginx or nginx_binary()}]\n      config:")
    )
    return load_file(file)


def test_a_site_of_its_own_file_is_changed_there_and_keeps_its_headers_and_logs(place: Place) -> None:
    service = site(place)
    assert service.router.nodes[0].entry == "127.0.0.1:8080"
    assert [list(one.targets) for one in service.colors.values()] == [["http://10.0.0.1:80"], ["http://10.0.0.2:81"]]
    place.patched()
    assert "keepalive_min_timeout 5s;" in (place.folder / "nginx.conf").read_text()
    found = (place.folder / "conf.d/pay.conf").read_text()
    assert '        proxy_pass http://$pay_pool;\n        add_header X-Frame-Options "DENY; really" always;\n' in found
    assert "        access_log logs/own.log combined;\n        add_header X-Release-Color $pay_color always;" in found


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("proxy_pass http://blue; # today", "proxy_pass http://blue/v1/;", "with no path after the upstream"),
        ("proxy_pass http://blue; # today", "proxy_pass http://blue; gzip on;", "only a proxy_pass of one line"),
        ("http://blue;", "http://other;", "no proxy_pass goes to blue or green"),
    ],
)
def test_a_proxy_pass_that_cannot_be_changed_is_refused(place: Place, old: str, new: str, said: str) -> None:
    site(place)
    place.put("conf.d/pay.conf", SITE.replace(old, new))
    code, out, err = place.run("lines", "pay", "--patch", "--live", "blue")
    assert (code, out) == (2, "")
    assert said in err


def test_an_nginx_that_does_not_know_keepalive_min_timeout_gets_no_such_line(place: Place) -> None:
    old = place.put("old-nginx", "#!/bin/sh\necho 'nginx version: nginx/1.22.1' >&2\n")
    old.chmod(0o755)
    site(place, old)
    assert "keepalive_min_timeout" not in place.patched()


@pytest.mark.haproxy
def test_check_reads_the_guides_haproxy_cfg_which_has_no_socket(a_node: Any, place: Place) -> None:
    path = guide("haproxy.cfg", place)
    node = a_node()
    backends = {"blue": "blue-backend", "green": "green-backend"}
    found = router_of(node, backends=backends, config=str(path)).check()
    by_code = {one.code: one for one in found}
    assert by_code.keys() >= {
        "socket-unreachable", "no-admin-socket", "exact-match-map", "reload-not-hitless", "color-header-missing",
    }  # fmt: skip
    assert "add `stats socket" in by_code["no-admin-socket"].mend
    assert (
        f"{path}:25: `use_backend %[path,map(/etc/haproxy/backend.map,blue-backend)]`"
        in by_code["exact-match-map"].fact
    )
    assert sum(one.code == "color-header-missing" for one in found) == 2
    assert "add `http-response set-header X-Release-Color blue` to it" in by_code["color-header-missing"].mend or (
        "add `http-response set-header X-Release-Color green` to it" in by_code["color-header-missing"].mend
    )


@pytest.mark.haproxy
def test_check_names_what_else_such_a_file_lacks(a_node: Any, place: Place) -> None:
    path = place.put("haproxy.cfg", SHARED.replace("    default-server check\n", "").replace("pay-green", "candidate"))
    found = router_of(a_node(), backends={"blue": "pay-blue", "green": "pay-green"}, config=str(path)).check()
    facts = [one.fact for one in found]
    assert any("there is no backend pay-green for green, only other, pay-blue, candidate" in fact for fact in facts)
    assert any("servers of pay-blue without a health check" in fact and fact.endswith("one") for fact in facts)


@pytest.mark.nginx
def test_check_names_everything_in_the_guides_nginx_conf_although_nginx_does_not_take_it(
    nginx_node: Any, place: Place
) -> None:
    node = nginx_node()
    node.folder.mkdir()
    path = guide("nginx.conf", place)
    text = path.read_text().replace("listen 443 ssl http2;", "").replace("listen 80;", f"listen {node.entry_port};")
    path.write_text("".join(f"{line}\n" for line in text.splitlines() if "ssl_certificate" not in line))
    backends = {"blue": "blue_backend", "green": "green_backend"}
    command = [nginx_binary(), "-p", str(place.folder), "-c", str(path)]
    found = nginx_router_of(node, router={"backends": backends}, fields={"command": command}).check()
    codes = {one.code for one in found}
    assert codes >= {
        "events-missing", "include-missing", "key-never-matches", "health-answered-by-proxy", "reload-not-hitless",
    }  # fmt: skip
