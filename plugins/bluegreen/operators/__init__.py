"""Airflow operators: each resolves its ports, calls one use case and returns JSON."""
