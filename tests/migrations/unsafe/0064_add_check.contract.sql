ALTER DOMAIN email_address ADD CHECK (value LIKE '%@%');
