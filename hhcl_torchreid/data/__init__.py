"""From files to batches of pixels."""

from .loader import AugmentedBatches, make_store, make_test_loaders
from .sampler import BatchPlan
from .transforms import BatchAugmentation

__all__ = ["AugmentedBatches", "BatchAugmentation", "BatchPlan", "make_store", "make_test_loaders"]
