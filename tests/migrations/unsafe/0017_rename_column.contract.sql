ALTER TABLE users RENAME surname TO last_name;
