"""From features to identities to look at: assignment, tables, a page, and the choice of eps."""

from ..features.saved import SavedFeatures, load_features, load_settings, save_features
from ..files import check_folder
from .answers import collect_corrections, correct
from .assignment import OUTLIER, Identities, compare_with_centroids
from .crops import Crops, cluster_settings, crops_from_features, crops_from_images
from .eps import ClustersAtEps, clusters_by_eps, draw_clusters_by_eps, recommend_eps, table_of_clusters
from .exporting import EXPORTS, export_identities
from .forgetting import forget_identity
from .joining import JoiningLabeler, load_known
from .numbers import load_earlier, load_names
from .page import write_page
from .questions import Question, find_questions
from .reviewing import ReviewServer
from .tracks import check_mot_folder, write_mot
from .writing import write_csv, write_identities, write_unreadable

__all__ = [
    "EXPORTS",
    "OUTLIER",
    "ClustersAtEps",
    "Crops",
    "Identities",
    "JoiningLabeler",
    "Question",
    "ReviewServer",
    "SavedFeatures",
    "check_folder",
    "check_mot_folder",
    "cluster_settings",
    "clusters_by_eps",
    "collect_corrections",
    "compare_with_centroids",
    "correct",
    "crops_from_features",
    "crops_from_images",
    "draw_clusters_by_eps",
    "export_identities",
    "find_questions",
    "forget_identity",
    "load_earlier",
    "load_features",
    "load_known",
    "load_names",
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
