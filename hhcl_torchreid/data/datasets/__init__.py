"""Data sets that torchreid lacks; importing this makes them known to it."""

from .folder import UNKNOWN_IDENTITY, CelebReID, FolderOfCrops, MSMT17TrainVal, PersonX, VeRi776, check_datasets

__all__ = ["UNKNOWN_IDENTITY", "CelebReID", "FolderOfCrops", "MSMT17TrainVal", "PersonX", "VeRi776", "check_datasets"]
