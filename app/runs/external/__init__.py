"""Runs that are trained elsewhere: creating them, taking in their records, going back, ending."""
