"""
Every rule of the linter: what it is called, what it means in each phase, why, and what to write instead.

``docs/unsafe-changes.md`` is made from this table, and a test holds the two together.
"""

from __future__ import annotations

from dataclasses import dataclass

from bluegreen.migrations.findings import Hazard
from bluegreen.migrations.ports import Phase

BREAKS, BACK, LOCKS, INVALID = Hazard


@dataclass(frozen=True)
class Rule:
    """
    What is looked for.

    :param expand: the class of a finding in this phase; None where it is fine there
    :param contract: the same
    :param why: half a sentence, follows what was found
    :param instead: in a few words; a finding has the SQL
    :param never: nobody can accept it
    """

    name: str
    expand: Hazard | None
    contract: Hazard | None
    why: str
    instead: str
    never: bool = False

    def hazard(self, phase: Phase) -> Hazard | None:
        """Return the class of a finding in a phase."""
        return self.contract if phase is Phase.CONTRACT else self.expand


def _dropped(kind: str, why: str = "the old color may still use it") -> Rule:
    return Rule(f"drop-{kind}", BREAKS, None, why, "the same statement in contract")


def _renamed(kind: str, instead: str) -> Rule:
    why = "one of the colors breaks at once: they overlap, and each knows one name"
    return Rule(f"rename-{kind}", BREAKS, BREAKS, why, instead, never=True)


_ALL = (
    # What one of the colors could not live with.
    _dropped("column", "the old color still reads and writes it"),
    _dropped("table", "the old color still reads and writes it"),
    _dropped("view"),
    _dropped("function"),
    _dropped("type"),
    _dropped("sequence"),
    _dropped("schema"),
    _dropped("extension"),
    _dropped("policy", "it decides which rows the old color sees"),
    _dropped("object"),
    Rule("drop-trigger", BACK, None, "what it kept true for the old color is kept no longer", "drop it in contract"),
    Rule(
        "drop-cascade",
        BREAKS,
        BREAKS,
        "CASCADE also drops what nobody named here, and the live color may use",
        "name what is dropped, one by one, in contract",
    ),
    Rule("drop-database", BREAKS, BREAKS, "everything in it is gone, for both colors", "not in a migration"),
    Rule("truncate", BREAKS, BREAKS, "every row is gone for both colors, under a lock that stops reads", "a backfill"),
    _renamed("column", "a new column, kept alike by dual writes, a backfill, then drop the old one in contract"),
    _renamed("table", "leave its name; a view has the new one"),
    _renamed("view", "a second view with the new name"),
    _renamed("enum-value", "add the new value, move rows in a backfill; the old value stays"),
    _renamed("schema", "a new schema with views"),
    _renamed("object", "make it anew under the new name, drop the old one in contract"),
    Rule(
        "set-schema",
        BREAKS,
        BREAKS,
        "it is a rename: the old color looks for it in the schema where it was",
        "leave it; a view in the new schema",
        never=True,
    ),
    Rule(
        "add-required-column",
        BREAKS,
        BREAKS,
        "NOT NULL without a default: it fails where there are rows, and INSERTs of a version that does not know it fail",
        "nullable, a backfill, then NOT NULL in contract; or NOT NULL with a constant default",
    ),
    Rule(
        "alter-column-type",
        BREAKS,
        LOCKS,
        "the table is rewritten under a lock that stops reads, and who reads the old type breaks",
        "a new column with dual writes, a backfill, then drop the old one in contract",
    ),
    Rule(
        "set-not-null",
        BREAKS,
        LOCKS,
        "the old color may write NULL, and the whole table is read under a lock that stops reads",
        "in contract CHECK … NOT VALID, then VALIDATE, then SET NOT NULL",
    ),
    Rule(
        "constraint-on-existing-column",
        BREAKS,
        None,
        "the old color's writes may not fulfil it",
        "the same in contract; accept it where the old color provably fulfils it",
    ),
    Rule("json-column", BREAKS, BREAKS, "json has no equality: SELECT DISTINCT over its table breaks", "jsonb"),
    Rule("replace-view", BREAKS, None, "the old color reads the view as it was", "a second view under a new name"),
    Rule(
        "replace-function", BREAKS, None, "the old color calls the function as it was", "a second function, a new name"
    ),
    Rule(
        "create-trigger",
        BREAKS,
        LOCKS,
        "it runs in each write of the color that knows nothing of it, and writes wait while it is made",
        "the dual-write kit; or the application does it",
    ),
    Rule(
        "create-rule", BREAKS, None, "it rewrites statements of the old color", "the application does it; else contract"
    ),
    Rule("enable-trigger", BREAKS, None, "it runs in each write of the old color", "in contract"),
    Rule("row-level-security", BREAKS, None, "the old color sees other rows than before", "in contract"),
    Rule("revoke", BREAKS, None, "the old color may still need the privilege", "in contract"),
    Rule(
        "change-owner", BREAKS, None, "what the old color may do depends on the owner", "GRANT; the owner in contract"
    ),
    Rule(
        "alter-sequence",
        BREAKS,
        BREAKS,
        "both colors draw from it: numbers collide, or run out",
        "leave it; a new sequence for a new column",
    ),
    Rule(
        "alter-identity",
        BREAKS,
        None,
        "INSERTs of the old color fail: its own values are refused, or none is drawn",
        "GENERATED BY DEFAULT; the rest in contract",
    ),
    Rule("drop-expression", BREAKS, None, "the old color's INSERTs leave it NULL from then on", "in contract"),
    Rule("detach-inheritance", BREAKS, None, "the parent's rows are fewer for the old color", "in contract"),
    Rule("replica-identity", BREAKS, BREAKS, "UPDATE and DELETE of a published table fail", "leave it"),
    Rule(
        "alter-composite-type", BREAKS, LOCKS, "who builds or reads its rows breaks", "a new type, and a column of it"
    ),
    # What would keep traffic from going back.
    Rule(
        "drop-not-null",
        BACK,
        None,
        "NULLs of the new color are what the old one cannot read",
        "in contract; until then the new color writes no NULL",
    ),
    Rule("drop-default", BACK, None, "the old color's INSERTs rely on it", "in contract"),
    Rule("drop-constraint", BACK, None, "the old color relies on what it guarantees", "in contract"),
    Rule(
        "disable-trigger",
        BACK,
        BACK,
        "what it kept true, foreign keys too, is true no longer when traffic goes back",
        "drop it in contract",
    ),
    # What would stop production.
    Rule("add-column-volatile-default", LOCKS, LOCKS, "the table is rewritten under a lock", "SET DEFAULT, a backfill"),
    Rule(
        "add-generated-column",
        LOCKS,
        LOCKS,
        "a stored generated column rewrites the table under a lock that stops reads",
        "a plain column that is written twice, a backfill",
    ),
    Rule(
        "add-serial-column",
        LOCKS,
        LOCKS,
        "the table is rewritten under a lock that stops reads",
        "a sequence, a column, its default, a backfill",
    ),
    Rule("add-foreign-key", LOCKS, LOCKS, "writes to both tables wait while it is checked", "NOT VALID, then VALIDATE"),
    Rule(
        "add-check", LOCKS, LOCKS, "the whole table is read under a lock that stops reads", "NOT VALID, then VALIDATE"
    ),
    Rule(
        "add-unique",
        LOCKS,
        LOCKS,
        "its index is built under a lock that stops reads",
        "CREATE UNIQUE INDEX CONCURRENTLY, then USING INDEX",
    ),
    Rule(
        "add-primary-key",
        LOCKS,
        LOCKS,
        "its index is built under a lock that stops reads",
        "CREATE UNIQUE INDEX CONCURRENTLY, then USING INDEX",
    ),
    Rule("add-exclude", LOCKS, LOCKS, "its index is built under a lock; there is no NOT VALID", "a new table, a copy"),
    Rule(
        "validate-in-same-file",
        LOCKS,
        LOCKS,
        "in one transaction the lock of ADD CONSTRAINT is held while the whole table is read",
        "VALIDATE in the next file",
    ),
    Rule("create-index", LOCKS, LOCKS, "writes wait until it is built", "CREATE INDEX CONCURRENTLY"),
    Rule("drop-index", LOCKS, LOCKS, "reads and writes of the table wait", "DROP INDEX CONCURRENTLY"),
    Rule("reindex", LOCKS, LOCKS, "writes wait until it is built, reads that use it too", "REINDEX … CONCURRENTLY"),
    Rule(
        "detach-partition", LOCKS, LOCKS, "reads and writes of the whole table wait", "DETACH PARTITION … CONCURRENTLY"
    ),
    Rule(
        "attach-partition",
        LOCKS,
        LOCKS,
        "the partition is read under a lock, for want of a CHECK that says the same as its bounds",
        "a partition made with that CHECK, then ATTACH",
    ),
    Rule("vacuum-full", LOCKS, LOCKS, "the table is rewritten under a lock that stops reads", "VACUUM; or pg_repack"),
    Rule("cluster", LOCKS, LOCKS, "the table is rewritten under a lock that stops reads", "pg_repack"),
    Rule("lock-table", LOCKS, LOCKS, "whoever uses the table waits", "leave it out; each statement takes its own lock"),
    Rule("set-logged", LOCKS, LOCKS, "the table is rewritten under a lock that stops reads", "a new table, a copy"),
    Rule("set-tablespace", LOCKS, LOCKS, "the data is moved under a lock that stops reads", "REINDEX or pg_repack"),
    Rule("set-access-method", LOCKS, LOCKS, "the table is rewritten under a lock", "a new table, a copy"),
    Rule("update-not-batched", LOCKS, LOCKS, "rows stay locked until the last one is written", "a backfill"),
    Rule("delete-not-batched", LOCKS, LOCKS, "rows stay locked until the last one is gone", "a backfill"),
    Rule(
        "refresh-materialized-view", LOCKS, LOCKS, "reads wait until it is built", "CONCURRENTLY, with a unique index"
    ),
    Rule(
        "timeout-removed", LOCKS, LOCKS, "a statement that waits for a lock stops all behind it", "leave the timeouts"
    ),
    # MySQL and MariaDB.
    Rule("algorithm-copy", LOCKS, LOCKS, "the table is copied, and writes wait", "ALGORITHM=INPLACE or INSTANT"),
    Rule("lock-clause", LOCKS, LOCKS, "it asks for a lock that stops writes", "LOCK=NONE"),
    Rule(
        "expression-default",
        LOCKS,
        LOCKS,
        "a default that is an expression copies the table",
        "nullable, then the default, a backfill",
    ),
    # What is not to be run at all.
    Rule("syntax-error", INVALID, INVALID, "the database would not take it", "mend it"),
    Rule(
        "not-readable",
        INVALID,
        INVALID,
        "what it would execute cannot be read here",
        "plain statements; or accept it with a reason",
    ),
    Rule(
        "role-change", INVALID, INVALID, "a role is the server's, and its password would stand in the file", "by hand"
    ),
    Rule("server-setting", INVALID, INVALID, "it is the server's or the database's, not the schema's", "by hand"),
    Rule("copy", INVALID, INVALID, "it needs a client's or a server's file", "INSERT; or a backfill"),
    Rule(
        "concurrently-in-transaction",
        INVALID,
        INVALID,
        "PostgreSQL refuses it inside a transaction",
        "without BEGIN and COMMIT",
    ),
    Rule(
        "transaction", INVALID, INVALID, "BEGIN and COMMIT do not fit each other", "one COMMIT for each BEGIN, or none"
    ),
    Rule("identifier-too-long", INVALID, INVALID, "the database cuts it, and the application asks for all of it", "63"),
    Rule("stale-override", INVALID, INVALID, "an entry of migrations.accept fits no finding", "take it out"),
)

RULES = {rule.name: rule for rule in _ALL}
NEVER = frozenset(rule.name for rule in _ALL if rule.never)
