"""The config language: schema, and YAML with line numbers."""
