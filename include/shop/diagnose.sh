#!/bin/sh
# What a person wants to see first when a color is broken: the end of its log.
tail -n 30 "/opt/airflow/sessions/$COLOR.log"
