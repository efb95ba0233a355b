"""Plug-ins of this kind, enrolled by the import lines below."""
