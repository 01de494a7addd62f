"""What the first training step on a pair would do, to first order, before anything is trained."""
