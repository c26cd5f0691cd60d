ALTER TABLE "users" ALTER COLUMN "full_name" DROP NOT NULL;
DROP TRIGGER IF EXISTS "zz_bluegreen_insert_users_full_name" ON "users";
DROP FUNCTION IF EXISTS "bluegreen_sync_users_full_name"();
ALTER TABLE "users" DROP COLUMN "full_name";
