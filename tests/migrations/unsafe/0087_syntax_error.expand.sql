ALTER TABLE users ADD COLUM nick text;
