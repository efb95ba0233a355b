"""Executors: have shards done on other machines. They know work and shards, nothing else."""
