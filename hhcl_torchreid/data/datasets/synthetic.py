"""The demo's people as a data set that renders itself."""

import logging
import re
from pathlib import Path
from typing import Any, ClassVar

import torchreid

from ...errors import InputError
from ...rendering import RenderingSettings, render_market1501
from ...rendering.marker import differences
from ...rendering.market1501 import MARKET_FOLDER

__all__ = ["SyntheticMarket"]

logger = logging.getLogger(__name__)


class SyntheticMarket(torchreid.data.datasets.Market1501):
    """Rendered people, read as Market-1501; renders the demo on first use, as torchreid's own data sets download.

    A folder rendered earlier with other settings is used as it is, and said to be: that is how to train on another size
    or seed.

    Args:
        root: folder of the data sets; this one lives in ``<root>/synthetic_market``.
        market1501_500k: accepted for torchreid's sake; it is about the real Market-1501.
        **kwargs: passed on to ``torchreid.data.datasets.Market1501``.

    Attributes:
        settings (RenderingSettings): what is rendered on first use.

    Raises:
        InputError: if the folder cannot be written or holds something else.

    Example:
        >>> import torchreid, hhcl_torchreid
        >>> datamanager = torchreid.data.ImageDataManager(root="reid-data", sources="synthetic")  # doctest: +SKIP
    """

    dataset_dir = "synthetic_market"
    dataset_url = None
    settings: ClassVar[RenderingSettings] = RenderingSettings()

    def __init__(self, root: str = "", market1501_500k: bool = False, **kwargs: Any) -> None:
        self._tells = kwargs.get("verbose", True)
        super().__init__(root=root, **kwargs)

    def download_dataset(self, dataset_dir: str, dataset_url: str | None) -> None:
        """Renders the demo into ``dataset_dir`` unless a complete rendering is there already.

        Args:
            dataset_dir: folder that holds, or will hold, ``Market-1501-v15.09.15``.
            dataset_url: ignored.

        Raises:
            InputError: if the folder cannot be written or holds something else.
        """
        if re.search(r"[-\d]+_c\d", dataset_dir):
            raise InputError(
                f"torchreid would read a person and a camera out of the folder name {dataset_dir}: choose a root "
                "without a number followed by _c and a digit"
            )
        folder = Path(dataset_dir) / MARKET_FOLDER
        if not folder.exists():
            render_market1501(dataset_dir, **vars(self.settings))
        elif (different := differences(folder, self.settings)) and self._tells:
            logger.warning(f"=> {folder} is not the demo: rendered with {different}")
