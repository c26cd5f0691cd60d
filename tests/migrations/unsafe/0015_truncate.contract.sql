TRUNCATE sessions, carts CASCADE;
