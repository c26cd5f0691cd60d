WITH gone AS (UPDATE users SET active = false WHERE seen < '2020-01-01' RETURNING id) SELECT id FROM gone;
