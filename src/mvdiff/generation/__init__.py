"""The engine behind `mvdiff generate`: planning, batches, samples on disk, sharding."""
