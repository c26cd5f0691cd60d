ALTER TABLE orders ALTER COLUMN id TYPE bigint USING id::bigint;
