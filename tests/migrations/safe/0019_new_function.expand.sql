CREATE FUNCTION display_name(u bigint) RETURNS text LANGUAGE sql AS $$ SELECT name FROM users WHERE id = u $$;
