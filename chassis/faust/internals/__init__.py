"""Corrections of Faust's own internals. Only `chassis.faust` imports this package."""
