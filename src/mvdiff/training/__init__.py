"""Training: the engine (`loop.py`) and what it trains for (`objective.py`)."""
