BEGIN;
CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL, CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num));
ALTER TABLE users ADD COLUMN zone text;
UPDATE alembic_version SET version_num='2' WHERE alembic_version.version_num = '1';
COMMIT;
