"""Every private name of torchreid that this package relies on."""

from typing import Any

import torchreid

__all__ = ["image_datasets"]


def image_datasets() -> dict[str, Any]:
    """Gives torchreid's own table of image data sets, name to class; what is put into it is known to torchreid."""
    return vars(torchreid.data.datasets)["__image_datasets"]
