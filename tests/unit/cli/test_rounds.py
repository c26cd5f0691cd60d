"""Many services, again and again."""

import threading
from types import SimpleNamespace

from bluegreen.cli.rounds import Rounds

SHOP, CART = SimpleNamespace(service="shop"), SimpleNamespace(service="cart")


def test_one_that_hangs_is_not_asked_twice_and_keeps_no_other_waiting(capsys):
    go_on, looked = threading.Event(), []

    def look(service):
        looked.append(service.service)
        if service is SHOP:
            go_on.wait(30)
        return 0 if service is CART else 1

    rounds = Rounds(look)
    assert list(rounds.run([SHOP, CART], 0.2)) == [0]
    assert list(rounds.run([SHOP, CART], 0.2)) == [0]
    assert sorted(looked) == ["cart", "cart", "shop"]
    assert capsys.readouterr().err == "bluegreen: shop: the look before this one has not ended yet\n"
    go_on.set()
    assert sorted(rounds.run([CART], None)) == [0, 1]


def test_services_are_looked_at_at_the_same_time():
    meet = threading.Barrier(2, timeout=10)
    assert list(Rounds(lambda _: meet.wait() * 0).run([SHOP, CART], None)) == [0, 0]
