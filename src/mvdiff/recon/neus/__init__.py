"""NeuS: a signed distance fitted to the views by volume rendering (arXiv 2106.10689)."""

from .reconstructor import Neus

__all__ = ["Neus"]
