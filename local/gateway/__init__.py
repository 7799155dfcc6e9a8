"""The stand-in of Kubernetes' gateway on one machine: one address, with the routes of `manifests/base/routes.yaml`."""
