"""Collection of the settled record: what to ask the source for, at what price, and what its answers change."""
