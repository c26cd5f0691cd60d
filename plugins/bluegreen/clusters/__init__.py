"""Kubernetes clusters: how they are reached, their objects, waits by watch. Knows neither routers nor deployers."""
