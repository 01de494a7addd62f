"""HTTP concerns of all routes: access control, limits, caching, errors, OpenAPI, static files."""
