BEGIN;
CREATE INDEX CONCURRENTLY users_nick_idx ON users (nick);
COMMIT;
