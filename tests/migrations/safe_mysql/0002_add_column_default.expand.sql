ALTER TABLE users ADD COLUMN plan varchar(10) NOT NULL DEFAULT 'free';
