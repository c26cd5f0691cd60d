DROP VIEW active_users;
DROP FUNCTION full_name(bigint);
DROP TABLE old_orders;
DROP SEQUENCE invoice_numbers;
DROP TYPE old_mood;
DROP TRIGGER audit ON orders;
