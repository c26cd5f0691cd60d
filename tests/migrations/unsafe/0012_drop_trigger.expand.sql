DROP TRIGGER audit ON orders;
