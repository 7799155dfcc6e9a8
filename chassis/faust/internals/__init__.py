"""Corrections of Faust's own machinery. Only `chassis.faust` imports this package."""
