"""What a process that is to be killed needs of the test that kills it."""

import psycopg

from bluegreen.catalog.migrations import Replica
from bluegreen.migrations.replica_sides import Side, found


class Two:
    """The two sides, by their addresses."""

    def __init__(self, replica, own, other):
        self.replica, self.own, self.other = replica, own, other

    def pair(self):
        return found(self.own, self.other, self.replica)


def two_of(words):
    _, replica, *addresses = words
    sides = [
        Side(name, lambda at=address: psycopg.connect(at, autocommit=True), address)
        for name, address in zip(("blue", "green"), addresses, strict=True)
    ]
    return Two(Replica.model_validate_json(replica), *sides)
