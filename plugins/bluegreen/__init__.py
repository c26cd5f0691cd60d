"""Zero-downtime blue-green releases as Apache Airflow DAG runs."""

__version__ = "0.1.0"
