"""The rules of alerting: airports, windows, traffic, interests, alerts. Pure: no clock, no I/O, no framework."""
