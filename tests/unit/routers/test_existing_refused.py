"""What an existing configuration does not say, or says twice, is asked for; what would harm live traffic is not added."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from bluegreen.routers.haproxy_config import routing_faults
from demo.haproxy import check_config, haproxy_binary
from tests.unit.routers.test_existing import SHARED, Place, place

__all__ = ["place"]

NGINX = """\
events { }
http {
    upstream pay_blue { server 10.0.0.1:8080; }
    upstream pay_green { server 10.0.0.2:8080; }
    server {
        listen 80;
        location / {
            proxy_pass http://pay_blue;
        }
    }
}
"""
BACKENDS = {"blue": "pay-blue", "green": "pay-green"}


def init(place: Place, name: str, text: str, *words: str, entry: str = "https://pay.example") -> tuple[int, str]:
    """Run init on a file; returns its exit code, and the error or the service file."""
    path = place.put(name, text)
    code, _, err = place.run("init", "pay", "--config", str(path), "--entry", entry, *words)
    return code, err if code else (place.folder / "services/pay.yaml").read_text()


@pytest.mark.parametrize(
    ("bind", "entry", "address"),
    [
        ("bind 10.0.0.5:8443 ssl crt x.pem", "https://pay.example", "10.0.0.5:8443"),
        ("bind :80,[::]:443 ssl crt x.pem", "https://pay.example", "'[::1]:443'"),
        ("bind *:443 ssl crt x.pem\n    bind *:80", "http://pay.example", "127.0.0.1:80"),
        ("bind unix@/run/x.sock ssl crt x\n    bind :443 accept-proxy ssl crt x\n    bind :9443 ssl crt x",
         "https://pay.example", "127.0.0.1:9443"),
        ("bind :8443 ssl crt x\n    bind :9443 ssl crt x", "https://pay.example:9443", "127.0.0.1:9443"),
    ],
)  # fmt: skip
def test_requests_come_in_where_a_bind_says(place: Place, bind: str, entry: str, address: str) -> None:
    code, text = init(place, "haproxy.cfg", SHARED.replace("bind :8443 ssl crt x.pem", bind), entry=entry)
    assert code == 0, text
    assert f"entry: {address} #" in text


@pytest.mark.parametrize(
    ("bind", "said"),
    [
        ("bind :80", "requests for https://pay.example come in cannot be told: what leads to the colors listens for http at :80"),
        ("bind :8443 ssl crt x\n    bind :9443 ssl crt x", "listens for https at :8443, https at :9443; name the node"),
        ("bind unix@/run/x.sock ssl crt x", "listens for nothing; name the node yourself: --node"),
    ],
)  # fmt: skip
def test_where_requests_come_in_is_not_guessed(place: Place, bind: str, said: str) -> None:
    code, err = init(place, "haproxy.cfg", SHARED.replace("bind :8443 ssl crt x.pem", bind))
    assert code == 2
    assert said in err


@pytest.mark.parametrize(
    ("listen", "address"),
    [
        ("listen 10.0.0.5:80", "10.0.0.5:80"), ("listen [::]:80;\n listen *:80", "127.0.0.1:80"), ("# none", "127.0.0.1:80"),
        ("listen unix:/run/n.sock; listen 80", "127.0.0.1:80"), ("listen 81 proxy_protocol; listen 82", "127.0.0.1:82"),
    ],
)  # fmt: skip
def test_requests_come_in_where_a_listen_says(place: Place, listen: str, address: str) -> None:
    replaced = NGINX.replace("listen 80;", f"{listen};" if "none" not in listen else listen)
    code, text = init(place, "site.conf", replaced, entry="http://pay.example")
    assert code == 0, text
    assert f"entry: {address} #" in text


SERVERS = ["server x unix@/run/x.sock", "server x 10.0.0.9", "server x ${HOST}:80", "server-template x 3 pay.lan:80"]


@pytest.mark.parametrize("server", SERVERS)
def test_a_server_without_an_address_of_its_own_is_asked_for(place: Place, server: str) -> None:
    text = SHARED.replace("    server one", f"    {server} check\n    server one")
    code, err = init(place, "haproxy.cfg", text)
    assert code == 2
    assert f"haproxy.cfg:19: `{server} check` does not say one host and port" in err
    assert "name every server of blue yourself: --blue" in err
    code, text = init(place, "haproxy.cfg", text, "--blue", "http://10.0.0.1:80", "--blue", "http://10.0.0.9:80")
    assert code == 0, text
    assert "targets: ['http://10.0.0.1:80', 'http://10.0.0.9:80']" in text


def test_servers_of_both_colors_in_one_backend_are_told_of(place: Place) -> None:
    both = "backend shop\n    server blue1 10.0.0.1:80 weight 90\n    server green1 10.0.0.2:80 weight 10\n"
    code, err = init(place, "haproxy.cfg", both)
    assert code == 2
    assert "haproxy.cfg:1: backend shop has servers of both colors (blue1, green1)" in err
    assert "give each color a backend of its own" in err


def test_an_upstream_with_a_unix_socket_is_asked_for(place: Place) -> None:
    code, err = init(place, "site.conf", NGINX.replace("10.0.0.2:8080", "unix:/run/g.sock"), entry="http://pay.example")
    assert code == 2
    assert "site.conf:4: `server unix:/run/g.sock;` does not say one host and port" in err


@pytest.mark.parametrize("include", ["bluegreen/*.conf", "{folder}/bluegreen/pay.conf"])
def test_an_include_that_has_no_file_yet_is_not_added_again(place: Place, include: str) -> None:
    line = f"http {{\n    include {include.format(folder=place.folder)};"
    init(place, "nginx.conf", NGINX.replace("http {", line), entry="http://pay.example")
    text = place.patched()
    assert "+    include" not in text
    assert "+split_clients" in text


def test_upstreams_of_stream_are_none_of_ours(place: Place) -> None:
    text = "events { }\nstream {\n upstream blue { server a:1; }\n upstream green { server b:1; }\n}\n"
    assert "0 upstreams have blue in their name: it has none" in init(place, "nginx.conf", text)[1]


@pytest.mark.parametrize("socket", ["ipv4@127.0.0.1:9999", "ipv4@*:9999", "0.0.0.0:9999"])
def test_a_tcp_socket_is_named_as_this_host_reaches_it(place: Place, socket: str) -> None:
    code, text = init(place, "haproxy.cfg", SHARED.replace("unix@/run/haproxy/own.sock", socket))
    assert code == 0, text
    assert "socket: 127.0.0.1:9999\n" in text


def test_whose_configuration_it_is_says_the_text_and_not_the_folder(place: Place) -> None:
    (place.folder / "nginx").mkdir()
    assert "type: haproxy" in init(place, "nginx/proxy.cfg", SHARED)[1]


def test_a_health_path_that_the_file_does_not_name_is_not_added_to_live_servers(place: Place) -> None:
    place.init(place.put("haproxy.cfg", SHARED.replace("    option httpchk GET /up\n", "")))
    assert "httpchk" not in place.patched()


def test_another_way_to_ask_for_health_is_read(place: Place) -> None:
    text = SHARED.replace("httpchk GET /up", "httpchk\n    http-check send meth GET uri /up ver HTTP/1.1")
    assert place.init(place.put("haproxy.cfg", text)).health.path == "/up"


@pytest.mark.haproxy
def test_a_default_above_other_rules_takes_no_requests_from_them(place: Place) -> None:
    moved = SHARED.replace("    default_backend other\n", "").replace("    use_backend pay-blue if pay # ours\n", "")
    text = moved.replace("    acl pay", "    default_backend pay-blue\n    acl pay").replace(" ssl crt x.pem", "")
    path = place.put("haproxy.cfg", text.replace("/run/haproxy/", f"{place.folder}/"))
    place.init(path, "--entry", "http://pay.example")
    place.patched()
    rules = [line.strip() for line in path.read_text().splitlines() if "_backend " in line]
    assert rules == [
        "default_backend pay-blue",
        "use_backend other if { path_beg /other }",
        "use_backend pay-green if { var(txn.pay_draw),sub(txn.pay_green) lt 0 }",
    ]
    check_config(haproxy_binary(), path)


def test_two_frontends_of_the_same_defaults_get_its_option_once(place: Place) -> None:
    two = "\nfrontend web2\n    bind :8444 ssl crt x.pem\n    default_backend pay-blue\nbackend other\n"
    text = SHARED.replace("    option idle-close-on-response\n", "").replace("\nbackend other\n", two)
    place.init(place.put("haproxy.cfg", text), "--entry", "https://pay.example:8443")
    assert place.patched().count("+    option idle-close-on-response") == 1


TCP = SHARED.replace("mode http", "mode tcp")


def test_what_does_not_speak_http_is_refused_and_found(place: Place) -> None:
    path = place.put("haproxy.cfg", TCP)
    place.init(path)
    code, out, err = place.run("lines", "pay", "--patch", "--live", "blue")
    assert (code, out) == (2, "")
    assert "haproxy.cfg:7: frontend web is not `mode http`; nothing was written" in err
    assert not_http(TCP) == ["backend pay-blue", "backend pay-green"]


@pytest.mark.parametrize(
    "text",
    [
        SHARED,
        TCP.replace("\nfrontend", "\ndefaults web\n    mode http\nfrontend"),
        TCP.replace("\nbackend pay-blue", "\nbackend pay-blue\n    mode http").replace(
            "\nbackend pay-green", "\nbackend pay-green\n    mode http"
        ),
        TCP.replace("defaults\n", "defaults web\n    mode http\ndefaults old\n").replace("\nbackend pay-blue", "\nbackend pay-blue from web")
        .replace("\nbackend pay-green", "\nbackend pay-green from web"),
    ],
)  # fmt: skip
def test_mode_http_may_stand_in_the_section_or_in_the_defaults_that_it_names(text: str) -> None:
    assert not_http(text) == []


def not_http(text: str) -> list[str]:
    found = routing_faults(text, "pay", "/etc/pay.map", BACKENDS)
    return [one.fact.split(" is not")[0] for one in found if one.code == "not-http"]


@pytest.mark.parametrize("name", ["haproxy.cfg", "site.conf"])
def test_a_comment_in_another_encoding_stays_as_it_is(place: Place, name: str) -> None:
    path = place.folder / name
    path.write_bytes(b"# Configuraci\xf3n\n" + (SHARED if name == "haproxy.cfg" else NGINX).encode())
    scheme = "https" if name == "haproxy.cfg" else "http"
    services = str(place.folder / "services")
    words = [str(Path(sys.executable).with_name("bluegreen")), "--services", services]
    for more in (["init", "pay", "--config", str(path), "--entry", f"{scheme}://pay.example"],
                 ["lines", "pay", "--patch", "--live", "blue"]):  # fmt: skip
        done = subprocess.run([*words, *more], capture_output=True, check=False, timeout=30)
        assert done.returncode == 0, done.stderr
    patched = subprocess.run(
        ["patch", "-d", "/", "-p0"], input=done.stdout, capture_output=True, check=False, timeout=10
    )
    assert patched.returncode == 0, patched.stdout
    assert b"# Configuraci\xf3n\n" in path.read_bytes()
    assert b"pay_green" in path.read_bytes() or b"$pay_pool" in path.read_bytes()


def test_the_lines_by_hand_name_the_files_own_frontend_and_health_path(place: Place) -> None:
    place.init(place.put("haproxy.cfg", SHARED))
    out = place.run("lines", "pay")[1]
    assert "\nfrontend web\n" in out
    assert out.count("option httpchk GET /up") == 2
