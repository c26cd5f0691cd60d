ALTER TABLE orders ADD COLUMN team_id bigint;
ALTER TABLE orders ADD CONSTRAINT orders_team_fk FOREIGN KEY (team_id) REFERENCES teams (id) NOT VALID;
