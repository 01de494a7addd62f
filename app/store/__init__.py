"""The database tables, and what the web side and the worker both do to them: leases, recording,
selections and lookups."""
