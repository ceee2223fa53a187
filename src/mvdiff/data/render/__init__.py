"""Rendering of training data: settings, plan, workers, and the record of each object."""
