ALTER TABLE orders ADD COLUMN discount numeric;
ALTER TABLE orders ADD CONSTRAINT discount_small CHECK (discount < 1) NOT VALID;
