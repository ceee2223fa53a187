"""Parameter names: ours → a published checkpoint's, one table per part, one file per family."""

from .mapping import KeyMapping, KeyTable, mapping_for, with_prefixes

__all__ = ["KeyMapping", "KeyTable", "mapping_for", "with_prefixes"]
