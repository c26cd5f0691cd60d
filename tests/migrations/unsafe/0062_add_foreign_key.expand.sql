ALTER TABLE orders ADD COLUMN team_id bigint REFERENCES teams (id);
