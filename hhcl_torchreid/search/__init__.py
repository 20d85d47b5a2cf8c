"""Search: which images of a folder show the person of a query image."""

from .ranking import Match, Ranking, rank
from .run import search

__all__ = ["Match", "Ranking", "rank", "search"]
