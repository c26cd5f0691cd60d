"""The bluegreen command, one module per verb; works without Airflow."""
