"""What a run keeps: its history, its state, its folder, its pictures."""

from .checks import check_engine
from .folder import RunFolder
from .history import History, make_writer
from .losses import Losses
from .state import TrainingState
from .teacher import make_teacher

__all__ = ["History", "Losses", "RunFolder", "TrainingState", "check_engine", "make_teacher", "make_writer"]
