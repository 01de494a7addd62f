"""Reviews of pairs: verdicts and edited texts with their history, and the review queue."""
