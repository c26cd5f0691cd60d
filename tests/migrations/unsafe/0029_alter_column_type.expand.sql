ALTER TABLE orders ALTER COLUMN price TYPE numeric(12, 2);
