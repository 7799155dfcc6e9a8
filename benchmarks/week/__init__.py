"""The parts of `benchmarks.live_week`: a sky of the whole world, its source, and a collector on a clock of steps."""
