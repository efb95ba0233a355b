"""Processes that touch files for the main one, which a file may hold up or kill alone."""
