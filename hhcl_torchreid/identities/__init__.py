"""From features to identities to look at: assignment, tables, a page, and the choice of eps."""

from .assignment import OUTLIER, Identities, compare_with_centroids
from .files import SavedFeatures, load_features, save_features, write_csv
from .page import write_page

__all__ = [
    "OUTLIER",
    "Identities",
    "SavedFeatures",
    "compare_with_centroids",
    "load_features",
    "save_features",
    "write_csv",
    "write_page",
]
