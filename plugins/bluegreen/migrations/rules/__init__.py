"""What the linter looks for, in small modules: a table of the rules, and what finds them in PostgreSQL's and MySQL's SQL."""
