"""The collector service: stores the interests of users, and collects flights from the OpenSky Network."""
