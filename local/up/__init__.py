"""Towerwatch for daily use by one person on one machine: `make up`, `make down`, `make clean`."""
