"""Responses that are only measured, on a GPU: filtered and reduced in one kernel, never stored."""
