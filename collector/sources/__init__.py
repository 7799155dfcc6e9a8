"""Clients of the sources of flights. A client depends on its source alone, never on our database."""
