"""The commands that run Towerwatch in a Kubernetes cluster on this machine, made with kind."""
