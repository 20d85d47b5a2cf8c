"""torchreid's engine as far as it tests: on pixels that stay decoded, with the whole CMC curve."""

import logging
from typing import Any

import torch
import torchreid
from torch import Tensor

from .. import distributed
from ..clustering.neighbors import check_features
from ..data.loader import TestBatches, make_test_loaders
from ..data.records import check_records, tell_of_unread_files
from ..errors import explain_out_of_memory
from ..features import Embedder, SeenByCameras, features_by_camera
from ..log import progress_bar
from ..training.folder import RunFolder
from .retrieval import TestSet, findable_targets, retrieve

__all__ = ["RetrievalEngine"]

logger = logging.getLogger(__name__)

# Of torchreid.utils.visualize_ranked_results, in pixels.
GRID_SPACING = 10
QUERY_EXTRA_SPACING = 90
WIDEST_PICTURE = 65_500  # JPEG has no wider ones


class RetrievalEngine(torchreid.engine.Engine):
    """Tests as torchreid does, in the main process alone, and keeps what it measured.

    Args:
        datamanager (DataManager): of torchreid.
        use_gpu (bool): use gpu.
        embedder (Embedder): makes the features.
        cache (str): where decoded images stay, see :class:`~hhcl_torchreid.data.store.ImageStore`.

    Attributes:
        results (dict): the last test: data set -> ``mAP``, ``Rank-1``, ... as fractions.
    """

    def __init__(self, datamanager: Any, use_gpu: bool, embedder: Embedder, cache: str) -> None:
        super().__init__(datamanager, use_gpu)
        check_records(datamanager)
        tell_of_unread_files(datamanager)
        self.embedder = embedder
        targets = findable_targets(datamanager.test_loader)
        self.test_loader = make_test_loaders(datamanager, targets, cache, embedder.device, embedder.images_at_once)
        self.results: dict[str, dict[str, float]] = {}
        self.test_camera_bn = 0

    def extract_features(self, input: Tensor) -> Tensor:
        """(B, 3, H, W) uint8 pixels, or float32 normalised ones -> (B, D) float32 features."""
        return self.embedder.embed(input)

    def test(self, test_camera_bn: int = 0, **settings: Any) -> float:
        """Torchreid's test of all targets.

        Args:
            test_camera_bn: batches of each camera for its own batch-norm statistics in the features, see
                :func:`~hhcl_torchreid.features.features_by_camera`; 0 for those of the model.
            **settings: see ``torchreid.engine.Engine.test``.

        Returns:
            The last target's rank-1; 0 where there is none.
        """
        self.test_camera_bn = test_camera_bn
        if not self.test_loader:
            logger.info("No labelled query and gallery images to test on")
            return 0.0
        test = super().test
        rank1, self.results = distributed.from_main(lambda: (test(**settings), self.results))
        return rank1

    @torch.no_grad()
    def _evaluate(
        self,
        dataset_name: str = "",
        query_loader: Any = None,
        gallery_loader: Any = None,
        visrank: bool = False,
        visrank_topk: int = 10,
        save_dir: str = "",
        **settings: Any,
    ) -> tuple[float, float]:
        """Torchreid's evaluation, which keeps the whole CMC curve and shows its progress."""
        query = self.extract_test_set(query_loader, "query")
        gallery = self.extract_test_set(gallery_loader, "gallery")
        query, gallery = self._tested_by_camera((query_loader, query), (gallery_loader, gallery))
        distances, self.results[dataset_name] = retrieve(query, gallery, **settings)
        logger.info("** Results **")
        for measure, value in self.results[dataset_name].items():
            # As torchreid's tools/parse_test_res.py looks for them.
            logger.info(f"{measure}: {value:.1%}" if measure == "mAP" else f"{measure:<8}: {value:.1%}")
        if visrank:
            torchreid.utils.visualize_ranked_results(
                distances,
                self.datamanager.fetch_test_loaders(dataset_name),
                self.datamanager.data_type,
                width=self.datamanager.width,
                height=self.datamanager.height,
                save_dir=str(RunFolder(save_dir).visrank(dataset_name)),
                topk=self._images_in_a_row(visrank_topk, distances.shape[1]),
            )
        return self.results[dataset_name]["Rank-1"], self.results[dataset_name]["mAP"]

    @explain_out_of_memory("the batch-norm statistics of cameras", "free memory on the device")
    def _tested_by_camera(self, *sets: tuple[TestBatches, TestSet]) -> list[TestSet]:
        """Query and gallery with the features that are compared."""
        seen = [SeenByCameras(loader.store, torch.from_numpy(found.cameras), found.features) for loader, found in sets]
        features = features_by_camera(self.embedder, seen, self.test_camera_bn, shared=False)
        return [found._replace(features=rows) for (_, found), rows in zip(sets, features, strict=True)]

    def _images_in_a_row(self, wanted: int, num_gallery: int) -> int:
        """What the gallery has and a picture of torchreid's takes, which is a JPEG."""
        width = self.datamanager.width
        room = (WIDEST_PICTURE - width - QUERY_EXTRA_SPACING) // (width + GRID_SPACING)
        topk = max(1, min(wanted, num_gallery, room))
        if topk < wanted:
            logger.warning(
                f"=> Ranking pictures show {topk} images in a row, not {wanted}: there are no more, or no wider JPEG"
            )
        return topk

    @torch.no_grad()
    @explain_out_of_memory("the features of query and gallery", "lower test.batch_size, or free memory on the device")
    def extract_test_set(self, loader: TestBatches, split: str) -> TestSet:
        """Features, identities and cameras of a query or gallery set, by torchreid's hooks."""
        batches = progress_bar(loader, desc=f"extract {split} features", unit="batch", leave=False)
        parsed = (self.parse_data_for_eval(data) for data in batches)
        found = TestSet.gather((self.extract_features(images), *others) for images, *others in parsed)
        check_features(found.features)  # what is no number is ranked too, and gives an mAP like any other
        return found
