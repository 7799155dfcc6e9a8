"""Live: movements, inferred from positions minutes after they happened.

`movements` is the detector, a pure fold of polls (`collector.sources.state_vector`); `command` shows what it finds.
"""
