"""Scenes drawn with numpy and Pillow; each module has images() -> {file name: array}."""
