"""Executors: have shards done by other processes. They know work and shards, nothing else."""
