"""What a training run watches: probes, their mass ledgers against theory, and greedy answers."""
