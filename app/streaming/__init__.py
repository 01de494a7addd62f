"""Live streams of runs: Server-Sent Events read from PostgreSQL, woken up through Redis."""
