"""The commands that run Towerwatch for daily use on one machine: `make up`, `make down`, `make clean`."""
