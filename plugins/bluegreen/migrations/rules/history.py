"""The tables in which tools write down what they have applied: what they write there is no migration's doing."""

TABLES = frozenset({"alembic_version", "django_migrations", "schema_migrations", "flyway_schema_history"})
