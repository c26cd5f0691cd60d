ALTER TABLE events ALTER COLUMN payload SET STORAGE EXTERNAL;
ALTER TABLE events SET (autovacuum_vacuum_scale_factor = 0.01);
