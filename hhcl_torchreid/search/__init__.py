"""Search: which images of a folder show the person of a query image."""

from .gallery import Gallery, load_gallery
from .ranking import Match, Ranking, rank
from .results import search

__all__ = ["Gallery", "Match", "Ranking", "load_gallery", "rank", "search"]
