CREATE TABLE notes (id bigint PRIMARY KEY, title varchar(50), cost numeric(8, 2), body text);
