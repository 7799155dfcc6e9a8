"""Leader election among the replicas, and the terms (fencing tokens) that stop a superseded leader."""
