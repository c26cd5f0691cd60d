"""Programs on the hosts of routers and services: run here, or there over SSH."""
