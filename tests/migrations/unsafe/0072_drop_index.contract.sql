DROP INDEX users_email_idx, users_name_idx;
