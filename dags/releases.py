"""The release__, rollback__, retire__ and contract__<service> DAGs of Airflow for every service file in include/services."""

from bluegreen.dagkit import release_dags

for dag in release_dags():
    globals()[dag.dag_id] = dag
