# Airflow with the project's dependencies; dags/, plugins/ and include/ are mounted or copied by the deployment.
FROM apache/airflow:3.3.2-python3.11
COPY requirements.txt /requirements.txt
RUN pip install --no-cache-dir -r /requirements.txt uvicorn fastapi
