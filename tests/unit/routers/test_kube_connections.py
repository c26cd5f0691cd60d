"""What the kernel's tables of a pod say of clients' connections; the tables were taken from a container of a real node."""

import pytest

from bluegreen.routers.kube_connections import established, target_ports

HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode"
REST = "00000000:00000000 00:00000000 00000000     0        0 4711 1 0000000000000000 20 4 30 10 -1"
LISTENS = f"   0: 00000000:1F90 00000000:0000 0A {REST}"
CLIENT = f"   1: 0580FD0A:1F90 01FF020A:D3A2 01 {REST}"
CLOSES = f"   2: 0580FD0A:1F90 01FF020A:D3A4 08 {REST}"
OUTWARD = f"   3: 0580FD0A:C001 01FF020A:1F90 01 {REST}"
SIDECAR = f"   4: 0100007F:1F90 0100007F:D3A6 01 {REST}"
MAPPED = "0000000000000000FFFF0000"
CLIENT_6 = f"   0: {MAPPED}0580FD0A:1F90 {MAPPED}01FF020A:D3A8 01 {REST}"
SIDECAR_6 = f"   1: {MAPPED}0100007F:1F90 {MAPPED}0100007F:D3AA 01 {REST}"
SELF_6 = f"   2: {'0' * 24}01000000:1F90 {'0' * 24}01000000:D3AC 01 {REST}"


@pytest.mark.parametrize(
    ("lines", "number"),
    [
        ([LISTENS], 0),
        ([LISTENS, CLIENT], 1),
        ([LISTENS, CLIENT, CLOSES], 1),
        ([CLIENT, OUTWARD], 1),
        ([CLIENT, SIDECAR], 1),
        ([CLIENT, HEAD, CLIENT_6, SIDECAR_6, SELF_6], 2),
        (["cat: /proc/net/tcp6: No such file or directory", CLIENT], 1),
    ],
)
def test_established_connections_of_others_to_our_port_are_counted(lines, number):
    assert established("\n".join([HEAD, *lines]), {8080}) == number


def test_a_port_that_is_not_the_services_is_not_counted():
    assert established(f"{HEAD}\n{CLIENT}", {9090}) == 0


def test_ports_have_their_number_in_the_service_or_in_the_pod():
    containers = [{"ports": [{"name": "web", "containerPort": 8080}, {"containerPort": 1}]}, {}]
    pod = {"spec": {"containers": containers}}
    service = {"spec": {"ports": [{"port": 80, "targetPort": "web"}, {"port": 81}, {"port": 82, "targetPort": "no"}]}}
    assert target_ports(service, pod) == {8080, 81}
