ALTER TABLE users ADD COLUMN uid char(36) DEFAULT (uuid());
