"""Building blocks that know nothing of the domain: settings, database, broker, errors, logging."""
