"""HHCL for torchreid: person re-identification learned from unlabelled images (arXiv 2109.12333).

The public names are imported when they are first asked for, so that ``hhcl --help`` waits for no PyTorch.
"""

import sys
import warnings
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from . import log

if TYPE_CHECKING:
    from .config import get_default_config
    from .engine import ImageHHCLEngine
    from .features.extractor import FeatureExtractor
    from .labels import PseudoLabeler, register_labeler
    from .memory import HybridMemory
    from .models import build_model, register_backbone
    from .training.callbacks import Callback

__version__ = "0.1.0"
__all__ = [
    "Callback",
    "FeatureExtractor",
    "HybridMemory",
    "ImageHHCLEngine",
    "PseudoLabeler",
    "build_model",
    "get_default_config",
    "register_backbone",
    "register_labeler",
]

_MODULES = {
    "Callback": "training.callbacks",
    "FeatureExtractor": "features.extractor",
    "HybridMemory": "memory",
    "ImageHHCLEngine": "engine",
    "PseudoLabeler": "labels",
    "build_model": "models",
    "get_default_config": "config",
    "register_backbone": "models",
    "register_labeler": "labels",
}
_DATASETS = ".data.datasets"  # makes the data sets of this package known to torchreid

log.attach()

# torchreid says so at every import; this package brings an evaluation of its own.
warnings.filterwarnings("ignore", "Cython evaluation", UserWarning)


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import_module(_DATASETS, __name__)
    globals()[name] = getattr(import_module(f".{_MODULES[name]}", __name__), name)
    return globals()[name]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _WithDataSets(MetaPathFinder):
    """Makes the data sets of this package known to torchreid as soon as somebody imports that."""

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> ModuleSpec | None:
        """Gives torchreid's own way of loading, with the data sets behind it."""
        if fullname != "torchreid":
            return None
        sys.meta_path.remove(self)
        spec = find_spec(fullname)
        if spec is not None and spec.loader is not None:
            spec.loader.exec_module = _then_data_sets(spec.loader)  # type: ignore[method-assign]
        return spec


def _then_data_sets(loader: Loader) -> Any:
    execute = loader.exec_module

    def exec_module(module: Any) -> None:
        execute(module)
        import_module(_DATASETS, __name__)

    return exec_module


if "torchreid" in sys.modules:
    import_module(_DATASETS, __name__)
else:
    sys.meta_path.insert(0, _WithDataSets())
