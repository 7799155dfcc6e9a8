"""Clients of the sources of flights, and the form in which they give a flight.

A client depends on its source alone, never on our database.
"""
