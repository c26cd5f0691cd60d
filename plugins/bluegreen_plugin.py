"""The only Airflow plugin of the project: the run's note, and the pool of the way back."""

from __future__ import annotations

from airflow.plugins_manager import AirflowPlugin

from bluegreen import listeners


class BlueGreenPlugin(AirflowPlugin):
    """Registers the listeners with Airflow."""

    name = "bluegreen"
    listeners = [listeners]
