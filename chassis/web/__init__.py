"""HTTP as the services speak it: problem details, health, the OpenAPI document, rate limits, the WSGI server."""
