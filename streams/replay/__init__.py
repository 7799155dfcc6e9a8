"""The commands `python -m streams replay` and `verify`, which fold the log again without Faust."""
