"""From features to identities to look at: assignment, tables, a page, and the choice of eps."""

from ..features.saved import SavedFeatures, load_features, load_settings, save_features
from ..files import check_folder
from .assignment import OUTLIER, Identities, compare_with_centroids
from .crops import Crops, cluster_settings, crops_from_features, crops_from_images
from .eps import ClustersAtEps, clusters_by_eps, draw_clusters_by_eps, recommend_eps, table_of_clusters
from .page import write_page
from .tracks import write_mot
from .writing import write_csv, write_identities, write_unreadable

__all__ = [
    "OUTLIER",
    "ClustersAtEps",
    "Crops",
    "Identities",
    "SavedFeatures",
    "check_folder",
    "cluster_settings",
    "clusters_by_eps",
    "compare_with_centroids",
    "crops_from_features",
    "crops_from_images",
    "draw_clusters_by_eps",
    "load_features",
    "load_settings",
    "recommend_eps",
    "save_features",
    "table_of_clusters",
    "write_csv",
    "write_identities",
    "write_mot",
    "write_page",
    "write_unreadable",
]
