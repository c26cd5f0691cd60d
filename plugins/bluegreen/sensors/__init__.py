"""Airflow sensors: the deferrable watch."""
