"""HTTP for all services: problem details, health, the OpenAPI document, rate limits, the WSGI server."""
