"""The guardian DAG of Airflow: restores services whose lease has run out."""

from bluegreen.dagkit import guardian_dag

dag = guardian_dag()
