"""The microservice chassis: the code that all services share. It contains nothing of the domain."""
