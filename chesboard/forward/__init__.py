"""Forward passes over preference pairs: hidden states and log-probabilities of both responses."""
