"""Measurements: `make bench` runs them and writes tables and JSON to `benchmarks/results/`."""
