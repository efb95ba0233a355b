"""Writers: what the output formats look like."""
