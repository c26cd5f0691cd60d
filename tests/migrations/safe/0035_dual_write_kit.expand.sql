-- as the dual-write kit generates it
ALTER TABLE "users"
    ADD COLUMN IF NOT EXISTS "first_name" text;

CREATE OR REPLACE FUNCTION "bluegreen_sync_users_full_name"() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $bluegreen$ BEGIN RETURN NEW; END $bluegreen$;

CREATE OR REPLACE TRIGGER "zz_bluegreen_insert_users_full_name" BEFORE INSERT ON "users"
FOR EACH ROW EXECUTE FUNCTION "bluegreen_sync_users_full_name"();
