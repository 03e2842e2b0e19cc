"""Predlog: a prediction log for machine-learning services. Importing this package loads nothing else."""
