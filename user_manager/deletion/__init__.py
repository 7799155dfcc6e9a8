"""The deletion saga: its steps, and the service that executes them."""
