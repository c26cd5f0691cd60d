CREATE TABLE teams (id bigint PRIMARY KEY AUTO_INCREMENT, owner bigint, FOREIGN KEY (owner) REFERENCES users (id));
CREATE UNIQUE INDEX teams_owner ON teams (owner);
UPDATE teams SET owner = 1;
