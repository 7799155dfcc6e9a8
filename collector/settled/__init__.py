"""Collection of the settled record: plan the API calls, charge the credit quota, store and publish the answers."""
