"""What of our own environment a command that we run may have."""

from __future__ import annotations

import os

# Airflow's own database, connections and variables are no business of a deployed program, which inherits all it gets.
_AIRFLOWS = ("AIRFLOW__", "AIRFLOW_CONN_", "AIRFLOW_VAR_")


def inherited() -> dict[str, str]:
    """Return our environment without what is Airflow's."""
    return {name: value for name, value in os.environ.items() if not name.startswith(_AIRFLOWS)}
