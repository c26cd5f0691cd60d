"""Kubernetes' own programs, built from its Go modules: a real control plane, a real node and Istio for the tests."""
