"""Schema changes of a service's database: their files, the linter gate, the runner, backfills, replication."""
