"""Faust apps: creation, worker process, tables and health. Docs: https://faust-streaming.github.io/faust/."""
