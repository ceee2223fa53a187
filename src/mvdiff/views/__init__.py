"""Views: pictures of one object with their cameras, and how they are read from files."""

from .views import Views

__all__ = ["Views"]
