ALTER TABLE orders MODIFY COLUMN id bigint;
