ALTER TABLE users ADDD nick text text;
