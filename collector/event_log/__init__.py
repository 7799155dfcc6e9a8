"""The log as the collector knows it: whether it is still the same, what was told of it, and how it is written anew."""
