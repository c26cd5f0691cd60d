ALTER FUNCTION full_name(bigint) RENAME TO display_name;
