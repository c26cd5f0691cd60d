CREATE UNIQUE INDEX CONCURRENTLY users_mail_key ON users (mail);
ALTER TABLE users ADD CONSTRAINT users_mail_key UNIQUE USING INDEX users_mail_key;
