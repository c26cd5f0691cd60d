"""Five hundred migrations as a service has them after some years: what the bench gives the linter."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import cycle, islice

from bluegreen.migrations.ports import Migration, Phase

NEW_TABLE = """\
-- Release {number}: what customers think of it.
CREATE TABLE reviews_{number} (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    order_id bigint NOT NULL REFERENCES orders (id),
    stars smallint NOT NULL CHECK (stars BETWEEN 1 AND 5),
    body text NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX reviews_{number}_order ON reviews_{number} (order_id);
COMMENT ON TABLE reviews_{number} IS 'one row a review; "it''s fine" is one, too';
GRANT SELECT, INSERT ON reviews_{number} TO shop_app;
CREATE VIEW reviews_{number}_by_day AS
    SELECT date_trunc('day', r.created_at) AS day, avg(r.stars) AS stars, count(*) AS number
    FROM reviews_{number} r JOIN orders o ON o.id = r.order_id WHERE o.state <> 'returned' GROUP BY 1;
"""
NEW_COLUMNS = """\
ALTER TABLE orders ADD COLUMN IF NOT EXISTS channel_{number} text, ADD COLUMN IF NOT EXISTS score_{number} integer DEFAULT 0;
ALTER TABLE orders ADD CONSTRAINT channel_{number}_known CHECK (channel_{number} IN ('web', 'app', 'shop')) NOT VALID;
ALTER TABLE orders VALIDATE CONSTRAINT channel_{number}_known;
CREATE INDEX CONCURRENTLY IF NOT EXISTS orders_channel_{number} ON orders (channel_{number}) WHERE channel_{number} IS NOT NULL;
COMMENT ON COLUMN orders.channel_{number} IS 'where it was bought';
"""
TRIGGER = """\
ALTER TABLE customers ADD COLUMN display_{number} text;
CREATE OR REPLACE FUNCTION fill_display_{number}() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    -- Both versions write; who leaves it out gets the old column's.
    NEW.display_{number} := coalesce(NEW.display_{number}, trim(NEW.first_name || ' ' || NEW.last_name));
    RETURN NEW;
END;
$$;
CREATE TRIGGER fill_display_{number} BEFORE INSERT OR UPDATE ON customers
    FOR EACH ROW EXECUTE FUNCTION fill_display_{number}();
ALTER TYPE order_state ADD VALUE IF NOT EXISTS 'held_{number}';
INSERT INTO settings (name, value) VALUES ('display_{number}', 'on') ON CONFLICT (name) DO NOTHING;
"""
CARELESS = """\
ALTER TABLE customers ADD COLUMN vat_{number} text NOT NULL;
ALTER TABLE customers RENAME COLUMN phone_{number} TO telephone_{number};
CREATE INDEX customers_vat_{number} ON customers (vat_{number});
UPDATE customers SET vat_{number} = upper(vat_{number});
ALTER TABLE orders ADD CONSTRAINT customer_{number} FOREIGN KEY (customer_{number}) REFERENCES customers (id);
"""
TAKEN_AWAY = """\
DROP VIEW IF EXISTS reviews_{number}_by_day;
DROP INDEX CONCURRENTLY IF EXISTS customers_vat_{number};
ALTER TABLE orders DROP CONSTRAINT IF EXISTS channel_{number}_known;
ALTER TABLE orders DROP COLUMN IF EXISTS channel_{number};
DROP FUNCTION IF EXISTS fill_display_{number}();
"""
KINDS = (NEW_TABLE, NEW_COLUMNS, TRIGGER, NEW_COLUMNS, NEW_TABLE, TRIGGER, CARELESS)
STATEMENTS = 5
"""Of each file."""
_EXPANDS = 4
"""Of five files; the fifth is a contract."""


def migrations(count: int) -> list[Migration]:
    """Return so many migrations: of five, four expand (some of them careless) and one contract."""
    return list(islice(_endless(), count))


def _endless() -> Iterator[Migration]:
    kinds = cycle(KINDS)
    number = 0
    while True:
        for _ in range(_EXPANDS):
            number += 1
            yield _one(number, Phase.EXPAND, next(kinds))
        yield _one(number, Phase.CONTRACT, TAKEN_AWAY)


def _one(number: int, phase: Phase, text: str) -> Migration:
    return Migration(f"{number:04}_release.{phase}.sql", phase, text.format(number=number))
