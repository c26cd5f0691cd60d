"""A real Kubernetes on one machine: control plane, network, pods that answer, a gateway; and services of the demo on it."""
