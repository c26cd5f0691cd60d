"""Values that cannot be wrong, the error tree and the ports. Knows neither Airflow nor any router."""
