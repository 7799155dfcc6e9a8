"""The loss of Kafka's log: how it is detected, what is noted for that case, and how the log is written anew."""
