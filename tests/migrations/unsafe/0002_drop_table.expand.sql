DROP TABLE IF EXISTS old_orders, archive.orders;
