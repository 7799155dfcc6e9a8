"""Leader election among the replicas, and the terms that fence off a leader that was replaced."""
