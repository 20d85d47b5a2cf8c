"""HHCL for torchreid: person re-identification learned from unlabelled images (arXiv 2109.12333)."""

__version__ = "0.1.0"
