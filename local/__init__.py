"""One machine's stand-ins for what a deployment finds around it. Nothing here runs in production."""
