"""Footage: from a video and what a tracker says of it to the crops that everything else works on.

``boxes`` holds what a tracker has seen and what can be said of it, ``mot`` reads and writes it, ``video`` decodes, and
``cropping`` cuts the people out.
"""

from .boxes import Boxes, covered_shares, true_people
from .cropping import CropSummary, crop_tracks, tracks_file
from .mot import read_tracks, write_tracks
from .video import read_frames

__all__ = [
    "Boxes",
    "CropSummary",
    "covered_shares",
    "crop_tracks",
    "read_frames",
    "read_tracks",
    "tracks_file",
    "true_people",
    "write_tracks",
]
