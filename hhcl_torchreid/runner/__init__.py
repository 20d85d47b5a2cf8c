"""A whole run from a configuration: what torchreid's ``scripts/main.py`` is to its engines."""

from .building import build_datamanager, build_engine, build_model_from_config
from .story import run, system_info, try_step

__all__ = ["build_datamanager", "build_engine", "build_model_from_config", "run", "system_info", "try_step"]
