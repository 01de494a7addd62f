"""The data doctor: what a dataset's pairs show by kind, with examples, and under a model."""
