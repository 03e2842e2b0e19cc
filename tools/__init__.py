"""What maintainers run, and nobody else."""
