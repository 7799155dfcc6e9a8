"""The collector's REST API: requests in, answers out, and who may ask."""
