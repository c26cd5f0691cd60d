"""A service in memory with a real database a color, and writers that ask the entry where to write."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import contextmanager
from dataclasses import replace

import psycopg

from bluegreen.core.colors import Color
from bluegreen.core.ports import Credentials
from bluegreen.release.replicated import Replicated
from demo.processes import wait_until
from tests.rigs.shop_database import ShopDatabase
from tests.unit.migrations.backfill.conftest import forget, side, wait_for_copy

BLOCK = 6.0
"""Seconds that writers wait at most: 3 were over once before a busy machine had cut over."""


class Pair:
    """Both databases of a service, its memory world, and writers that ask the router where to write."""

    def __init__(self, pg, pg_two, folder, world):
        self.blue, self.green, self.world = ShopDatabase(pg, folder), ShopDatabase(pg_two, folder), world
        self.by_color = {Color.BLUE: self.blue, Color.GREEN: self.green}
        self.name = f"r_{self.blue.name}"
        self.lost, self.silent = set(), socket.create_server(("127.0.0.1", 0))
        for one in (self.blue, self.green):
            one.sql("CREATE TABLE orders (id bigserial PRIMARY KEY, writer int, number int, UNIQUE (writer, number))")
        self.green.sql("TRUNCATE users")
        self.blue.sql("CREATE PUBLICATION shop FOR TABLE users, orders")
        with pg_two.connect(self.green.name) as connection:
            url = pg.url(self.blue.name)
            connection.execute(f"CREATE SUBSCRIPTION {self.name} CONNECTION '{url}' PUBLICATION shop")
            wait_for_copy(connection)
        self.blue.settings["replica"] = {
            "database": {"connection": "green_db", "name": self.green.name}, "publication": "shop",
            "subscription": self.name, "within": "20s", "block_writes": f"{int(BLOCK * 1000)}ms", "sequences_ahead": 1000,
        }  # fmt: skip

    def secrets(self, connection):
        if connection in self.lost:  # one that takes every connection, and says nothing
            return Credentials("postgres", "planted-7f3a91", *self.silent.getsockname())
        return (self.green if connection == "green_db" else self.blue).server.credentials()

    def service(self):
        return self.blue.service()

    def ports(self):
        service = self.service()
        replicated = Replicated(service, service.migrations.replica, self.secrets, self.world.said.append)
        return replace(self.world.ports(service), replicated=replicated)

    def source(self):
        return self.ports().replicated.written()

    def where(self):
        """Return the color that the entry gives requests to."""
        return self.world.nodes[0].split.whole or Color.BLUE  # in a canary all is written to the live one's

    def forget(self):
        for server, database in ((self.blue.server, self.blue.name), (self.green.server, self.green.name)):
            for name in (self.name, f"{self.name}_back"):
                forget(side("x", server, database), name)

    @contextmanager
    def writers(self, count=3):
        made = Writers(self, count)
        try:
            made.more()
            yield made
            made.more()
        finally:
            made.stop.set()
            [thread.join() for thread in made.threads]


class Writers:
    def __init__(self, pair, count):
        self.pair, self.stop, self.answered, self.unknown = pair, threading.Event(), [0] * count, []
        self.threads = [threading.Thread(target=self.write, args=(number,)) for number in range(count)]
        [thread.start() for thread in self.threads]

    def write(self, number):
        connection, at = None, None
        while not self.stop.is_set():
            try:
                if connection is None or at != self.pair.where():
                    at = self.pair.where()
                    one = self.pair.by_color[at]
                    connection = one.server.connect(one.name)
                row = [number, self.answered[number] + 1]
                connection.execute("INSERT INTO orders (writer, number) VALUES (%s, %s)", row)
                self.answered[number] += 1
            except psycopg.errors.ReadOnlySqlTransaction:
                connection = None  # turned away: what a pool does
            except psycopg.Error as error:
                self.unknown.append(f"{at}: {error}")
                connection = None
                time.sleep(0.05)

    def more(self, number=15):
        aim = [one + number for one in self.answered]
        wait_until(lambda: all(a >= b for a, b in zip(self.answered, aim, strict=True)), 30, f"{self.unknown}")

    def found_in(self, database):
        query = "SELECT count(*), coalesce(max(number), 0) FROM orders WHERE writer = {}"
        return [database.sql(query.format(number))[0] for number in range(len(self.answered))]

    @property
    def wanted(self):
        return [(number, number) for number in self.answered]
