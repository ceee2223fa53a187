"""Helpers that belong to no room: image files, limits."""
