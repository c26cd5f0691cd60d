COMMENT ON TABLE orders IS 'what was bought';
ALTER TABLE orders ALTER COLUMN status SET STATISTICS 500;
ANALYZE orders;
VACUUM (ANALYZE) orders;
