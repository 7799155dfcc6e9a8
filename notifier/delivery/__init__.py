"""From an alert to a delivered mail, in the order in which it passes: dispatch, batching, deliver, retries, store."""
