"""A cluster of Kubernetes on one Linux machine, as root and without Docker: a control plane, and nodes with pods."""
