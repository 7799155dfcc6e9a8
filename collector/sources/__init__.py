"""Clients of the places where flights come from. A client knows its source and nothing of our database."""
