"""The models that a run can name: those in the models folder and results of training runs."""
