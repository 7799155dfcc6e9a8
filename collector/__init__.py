"""Interests and flights: what people want to be told, and what the OpenSky Network saw."""
