"""The stream: joins flight events with interests, and publishes alerts."""
