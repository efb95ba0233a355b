"""read -> prepare -> filter -> measure -> write."""
