"""The OpenSky Network: the client of its REST API and its credentials."""
