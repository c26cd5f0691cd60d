"""The only Airflow plugin of the project: the run's note, and the pool of the way back."""

from __future__ import annotations

from airflow.plugins_manager import AirflowPlugin

# The scheduler loads plugins before its workers part from it: what every task needs is imported once, not in each.
import bluegreen.dagkit  # noqa: F401
from bluegreen import listeners


class BlueGreenPlugin(AirflowPlugin):
    """Registers the listeners with Airflow."""

    name = "bluegreen"
    listeners = [listeners]  # noqa: RUF012 - Airflow's own way to say it
