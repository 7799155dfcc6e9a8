"""The join: flight events meet interests, and alerts are raised."""
