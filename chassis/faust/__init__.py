"""Faust apps: how they are created, run, stored and watched. Docs: https://faust-streaming.github.io/faust/."""
