"""Executors: where shards run. They know work and shards, nothing else."""
