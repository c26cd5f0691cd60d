ALTER TABLE users ADD COLUMN uid uuid;
ALTER TABLE users ALTER COLUMN uid SET DEFAULT gen_random_uuid();
