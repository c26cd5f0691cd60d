"""
Follows the README's "Your first service" to the letter, in a machine of its own making.

Run by ``test_first_service`` in network, mount and process namespaces of its own: there the guide's addresses and ports,
/etc/haproxy, /etc/nginx and this clone are private, and what is written is gone at the end. The guide's configuration
files are used unchanged. Prints JSON: what each step said, what was live, and what users saw meanwhile.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import ssl
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp

from demo.haproxy import haproxy_binary
from demo.nginx import nginx_binary
from tests.system.conftest import eventually

ROOT = Path(__file__).resolve().parents[2]
GUIDE = ROOT / "benchmarks" / "guide"
HOSTS = [f"192.168.{color}.10{number}" for color in (1, 2) for number in (1, 2, 3)]
NAME = "pay.example"
RATE = 40

# The user's own application, and the user's own way to bring a version of it onto a host.
APPLICATION = """\
import json, sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        body = json.dumps({"status": "ok", "version": sys.argv[2], "path": self.path}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass

ThreadingHTTPServer((sys.argv[1], 8080), Handler).serve_forever()
"""
DEPLOY = """\
#!/bin/sh -e
host=$(echo "$SSH_CONNECTION" | cut -d ' ' -f 3)
pid=/home/deploy/$host.pid
if [ -e "$pid" ]; then kill "$(cat "$pid")" 2> /dev/null || true; sleep 0.3; fi
setsid /usr/bin/python3 /opt/application/app.py "$host" "$1" > /dev/null 2>&1 < /dev/null &
echo $! > "$pid"
"""
SYSTEMCTL = """\
#!/bin/sh -e
# There is no systemd here: what Debian's units do at a reload.
case "$1 $2" in
"reload haproxy") haproxy -c -q -f /etc/haproxy/haproxy.cfg && kill -USR2 "$(cat /run/haproxy.pid)" && sleep 1 ;;
"reload nginx") nginx -s reload && sleep 1 ;;
*) exit 1 ;;
esac
"""
# As a distribution builds it: the folders that the program itself knows.
NGINX = """\
#!/bin/sh
exec {binary} -p /etc/nginx/ -c /etc/nginx/nginx.conf -e /var/log/nginx/error.log "$@"
"""


def main() -> None:
    router, folder = sys.argv[1], Path(sys.argv[2])
    said: dict[str, str] = {}
    machine(folder, router)
    users = Users(folder / "ca.pem")
    os.environ |= {"SSL_CERT_FILE": str(folder / "ca.pem"), "PATH": f"/usr/local/sbin:{os.environ['PATH']}"}
    os.environ["AIRFLOW_HOME"] = str(folder / "unused")
    shell, log = Shell(), folder / "airflow.log"
    try:
        for number, words in blocks((ROOT / "README.md").read_text(), router):
            for block in words:
                said[str(number)] = said.get(str(number), "") + (
                    airflow(shell, log) if block == "make airflow" else shell.run(block)
                )
            if number == 6:
                users.start()
            if number in (6, 8, 9):
                said[f"status {number}"] = shell.run("bluegreen status pay --json")
    finally:
        found = users.stop()
        print(json.dumps({"said": said, "users": found}), flush=True)


def blocks(readme: str, router: str) -> Iterator[tuple[int, list[str]]]:
    """Yield each step of the section with its commands, those of the other router left out."""
    section = readme.split("## Your first service")[1].split("\n## ", maxsplit=1)[0]
    steps = re.split(r"^\*\*(\d+)\. ", section, flags=re.MULTILINE)[1:]
    for number, text in zip(steps[::2], steps[1::2], strict=True):
        fences = re.findall(r"^```sh ?(\w*)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
        yield int(number), [block.strip() for kind, block in fences if kind in ("", "airflow", router)]


class Shell:
    """One bash, as a person keeps it open."""

    def __init__(self) -> None:
        self.bash = subprocess.Popen(
            ["bash", "-eo", "pipefail"], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    def run(self, block: str) -> str:
        """Paste a block and return what it says; one that fails ends everything."""
        assert self.bash.stdin
        assert self.bash.stdout
        self.bash.stdin.write(f"{block}\necho @@@done\n")
        self.bash.stdin.flush()
        lines = []
        for line in self.bash.stdout:
            if line == "@@@done\n":
                return "".join(lines)
            lines.append(line)
            print(line, end="", file=sys.stderr, flush=True)
        raise RuntimeError(f"the README's block failed:\n{block}\nit said:\n{''.join(lines)}")


def airflow(shell: Shell, log: Path) -> str:
    """Open a second terminal for Airflow, and paste its line into the first one."""
    with log.open("w") as output:
        second = subprocess.Popen(["make", "airflow"], cwd=ROOT, stdout=output, stderr=subprocess.STDOUT)

    def line() -> str | None:
        if second.poll() is not None:
            raise RuntimeError(f"make airflow ended:\n{log.read_text()}")
        return next((one for one in log.read_text().splitlines() if one.startswith("export ")), None)

    told = eventually(line, "Airflow to print its line")
    said = log.read_text()
    shell.run(told or "")
    dags = "".join(f"grep -q {kind}__pay dags.json && " for kind in ("release", "rollback"))
    shell.run(
        'until curl -sf "$AIRFLOW_URL/api/v2/dags" -H "Authorization: Bearer $(curl -sf "$AIRFLOW_URL/auth/token" --json '
        '"{\\"username\\": \\"$AIRFLOW_USER\\", \\"password\\": \\"$AIRFLOW_PASSWORD\\"}" | '
        'python3 -c \'import json, sys; print(json.load(sys.stdin)["access_token"])\')" > dags.json && '
        f"{dags} true; do sleep 0.5; done"
    )
    return said


class Users(threading.Thread):
    """Users of the service, by its name and over TLS, on kept-alive connections: who answered, and what failed."""

    def __init__(self, ca: Path) -> None:
        super().__init__(daemon=True)
        self.ca, self.over = ca, threading.Event()
        self.answers: Counter[str] = Counter()
        self.failures: list[str] = []

    def run(self) -> None:
        asyncio.run(self._run())

    async def _run(self) -> None:
        context = ssl.create_default_context(cafile=self.ca)
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=10, ssl=context)) as session:
            end, begun = time.monotonic() + 400, set()
            while not self.over.is_set() and time.monotonic() < end:
                begun.add(task := asyncio.create_task(self._ask(session)))
                task.add_done_callback(begun.discard)
                await asyncio.sleep(1 / RATE)
            await asyncio.gather(*begun)

    async def _ask(self, session: aiohttp.ClientSession) -> None:
        try:
            async with session.get(
                "https://127.0.0.1/products", headers={"Host": NAME}, server_hostname=NAME, allow_redirects=False
            ) as answer:
                version = (await answer.json())["version"]
                self.answers[f"{answer.headers['X-Release-Color']} {version}"] += 1
        except Exception as error:  # noqa: BLE001 - whatever it is, a user saw it
            self.failures.append(f"{type(error).__name__}: {error}")

    def stop(self) -> dict[str, Any]:
        self.over.set()
        with suppress(RuntimeError):  # never begun
            self.join(30)
        return {"answers": dict(self.answers), "failures": self.failures}


# The machine that a reader of the guide has


def machine(folder: Path, router: str) -> None:
    """Make addresses, files, users and an sshd, and start the guide's proxy with blue live and nothing on green."""
    run("mount", "-t", "tmpfs", "tmpfs", str(folder))  # what is written over the machine's own files
    run("ip", "link", "set", "lo", "up")
    for host in HOSTS:
        run("ip", "address", "add", f"{host}/32", "dev", "lo")
    for number, place in enumerate(("/etc", "/opt", "/home", "/root", "/usr/local", str(ROOT))):
        upper, work = folder / f"upper{number}", folder / f"work{number}"
        upper.mkdir()
        work.mkdir()
        run("mount", "-t", "overlay", "overlay", "-o", f"lowerdir={place},upperdir={upper},workdir={work}", place)
    for place in ("/run", "/var/log"):
        run("mount", "-t", "tmpfs", "tmpfs", place)
    os.chdir(ROOT)
    shutil.rmtree(ROOT / "build", ignore_errors=True)
    program(Path("/usr/local/sbin/systemctl"), SYSTEMCTL)
    certificates(folder)
    sshd()
    for host in HOSTS[:3]:
        run("ssh", f"deploy@{host}", "/opt/application/deploy.sh 1.4.0")
    {"haproxy": start_haproxy, "nginx": start_nginx}[router]()


def run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, stdin=subprocess.DEVNULL)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stdout}{done.stderr}")


def program(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


def certificates(folder: Path) -> None:
    key, cert = folder / "key.pem", folder / "ca.pem"
    run(
        *[
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "2",
        ],
        *("-subj", f"/CN={NAME}", "-addext", f"subjectAltName=DNS:{NAME}", "-keyout", str(key), "-out", str(cert)),
    )
    for name, parts in {
        "/etc/haproxy/certs/site.pem": (cert, key),
        "/etc/nginx/certs/fullchain.pem": (cert,),
        "/etc/nginx/certs/privkey.pem": (key,),
    }.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text("".join(part.read_text() for part in parts))


def sshd() -> None:
    """Let root log in as deploy on every host, as whoever follows the guide can."""
    for file, line in (("passwd", "deploy:x:4711:4711::/home/deploy:/bin/sh"), ("shadow", "deploy:*:19000::::::")):
        path = Path("/etc") / file
        path.write_text(f"{path.read_text().rstrip()}\n{line}\n")
    home, mine = Path("/home/deploy"), Path.home() / ".ssh"
    (home / ".ssh").mkdir(parents=True)
    shutil.rmtree(mine, ignore_errors=True)
    mine.mkdir(mode=0o700)
    program(Path("/opt/application/deploy.sh"), DEPLOY)
    Path("/opt/application/app.py").write_text(APPLICATION)
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(mine / "id_ed25519"))
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", "/run/host_key")
    shutil.copy(mine / "id_ed25519.pub", home / ".ssh" / "authorized_keys")
    for path in (home, home / ".ssh", home / ".ssh" / "authorized_keys"):
        os.chown(path, 4711, 4711)
    Path("/run/sshd").mkdir()
    Path("/run/sshd_config").write_text("HostKey /run/host_key\nUsePAM no\nPidFile none\n")
    run("/usr/sbin/sshd", "-f", "/run/sshd_config")
    key = Path("/run/host_key.pub").read_text()
    (mine / "known_hosts").write_text("".join(f"{host} {key}" for host in HOSTS))


def start_haproxy() -> None:
    Path("/usr/local/sbin/haproxy").symlink_to(haproxy_binary())
    Path("/run/haproxy").mkdir()
    shutil.copy(GUIDE / "haproxy.cfg", "/etc/haproxy/haproxy.cfg")
    Path("/etc/haproxy/backend.map").write_text("# Mapeo de backend predeterminado\n/ blue-backend\n")
    # The guide's maxconn of 100,000 needs more open files than this machine may have; -n has precedence.
    run("haproxy", "-W", "-n", "2000", "-f", "/etc/haproxy/haproxy.cfg", "-p", "/run/haproxy.pid")


def start_nginx() -> None:
    """Start it with events { }, which the guide's nginx.conf lacks, and put that file there to the letter then."""
    program(Path("/usr/local/sbin/nginx"), NGINX.format(binary=nginx_binary()))
    Path("/var/log/nginx").mkdir()
    guide, there = (GUIDE / "nginx.conf").read_text(), Path("/etc/nginx/nginx.conf")
    Path("/etc/nginx/backend.map").write_text('# Backend activo (blue o green)\n"" blue_backend;\n')
    there.write_text(f"events {{ }}\n{guide}")
    run("nginx")
    there.write_text(guide)


if __name__ == "__main__":
    main()
