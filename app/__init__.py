"""The web side: pages and the API, and the database that it shares with the worker; no torch."""
