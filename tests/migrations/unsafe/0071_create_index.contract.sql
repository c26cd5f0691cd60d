CREATE INDEX ON shop.orders USING gin (tags);
