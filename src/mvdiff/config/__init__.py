"""Configs: composition by Hydra, ranges of numbers, and variants made from their entries."""
