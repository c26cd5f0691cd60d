"""No DAG: shows broken service files as an import error of their own in Airflow, so that they take no other DAG away."""

from bluegreen.dagkit import raise_catalog_errors

raise_catalog_errors()
