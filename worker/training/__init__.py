"""Training runs: the loop, its optimizer and checkpoints, the passes before and after it."""
