CREATE TABLE teams (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL UNIQUE, owner bigint REFERENCES users (id));
CREATE INDEX teams_owner_idx ON teams (owner);
ALTER TABLE teams ADD CONSTRAINT name_not_empty CHECK (name <> '');
ALTER TABLE teams ALTER COLUMN owner SET NOT NULL;
CREATE TRIGGER touch BEFORE UPDATE ON teams FOR EACH ROW EXECUTE FUNCTION touch();
INSERT INTO teams (name, owner) VALUES ('first', 1);
UPDATE teams SET name = 'one';
