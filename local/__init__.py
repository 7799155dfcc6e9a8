"""Local replacements for the systems around a deployment (Kafka, OpenSky, mail). Nothing here runs in production."""
