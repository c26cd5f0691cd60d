BEGIN;
SET LOCAL lock_timeout = '500ms';
SET LOCAL statement_timeout = '5s';
ALTER TABLE users ADD COLUMN IF NOT EXISTS locale text;
COMMIT;
