"""Airflow triggers: the watch's sampling loop."""
