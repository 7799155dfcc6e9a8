"""The deletion saga: its steps, and the process that carries them forward."""
