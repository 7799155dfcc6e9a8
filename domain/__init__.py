"""The rules: airports, windows, traffic, interests, alerts. Pure and frozen: no clock, no I/O, no framework."""
