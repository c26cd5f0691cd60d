ALTER TABLE shop.orders RENAME TO purchases;
