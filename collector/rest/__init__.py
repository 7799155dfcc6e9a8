"""The collector's REST API: routes, request bodies, answer bodies, and the authentication of callers."""
