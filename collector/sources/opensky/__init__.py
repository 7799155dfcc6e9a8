"""The client of the OpenSky Network's REST API, and its credentials."""
