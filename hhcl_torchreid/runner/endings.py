"""The last words of a run: identities of its training images, accuracy before and after, where to look."""

from pathlib import Path

from yacs.config import CfgNode

from .. import distributed
from ..data.datasets import sightings_of
from ..data.tracks import Sighting
from ..engine import ImageHHCLEngine
from ..features import SeenByCameras, features_by_camera
from ..identities import Crops, write_identities
from ..labels import CorrectedLabeler
from ..log import answer
from ..training import reports
from ..training.folder import RunFolder
from .building import correct, folder_of_images

__all__ = ["print_summary", "write_identities_of_run"]


def write_identities_of_run(cfg: CfgNode, engine: ImageHHCLEngine) -> None:
    """Writes what ``hhcl assign`` does, of the training images by the model as it is now."""
    features = engine.extract_training_features()
    root = folder_of_images(cfg, engine.records)
    paths = [Path(path).relative_to(root).as_posix() for path, *_ in engine.records]
    seen = sightings_of(cfg.data.sources)
    sightings = [
        seen.get(path) or Sighting(f"camera {camera}")
        for (path, *_), camera in zip(engine.records, engine.images.cameras.tolist(), strict=True)
    ]
    crops = Crops(root, paths, sightings, features, [])
    seen_by = SeenByCameras(engine.store, crops.images.cameras, features)
    crops = crops._replace(features=features_by_camera(engine.embedder, [seen_by], cfg.test.camera_bn)[0])
    labeler = engine.labeler
    if not distributed.is_main():
        labeler(crops.features, engine.images)  # its part of the neighbour search
        return
    if isinstance(labeler, CorrectedLabeler):  # its images are called by their paths below the folder here
        labeler = correct(cfg, labeler.labeler, {path: path for path in paths}, root)
    found = write_identities(RunFolder(cfg.data.save_dir).identities, crops, labeler)
    answer(f"=> {found.num_identities} identities, {found.num_outliers} outliers of {len(found)} training images")


def print_summary(cfg: CfgNode, engine: ImageHHCLEngine) -> None:
    """Says accuracy before and after training, and where to look."""
    for name, after in engine.results.items():
        columns = (
            {"after": after}
            if cfg.test.evaluate
            else {"before": engine.history.results_before.get(name, {}), "after": after}
        )
        answer(f"\n{name}\n{reports.comparison_table(columns)}")
    folder = RunFolder(cfg.data.save_dir)
    lines = engine.history.lines[1:]
    measures = [name for name in ("track_separation", "self_retrieval") if any(name in line for line in lines)]
    if measures and not engine.test_loader:
        best = max((line for line in lines if measures[0] in line), key=lambda line: line[measures[0]])
        values = ", ".join(f"{name} {best[name]:.3f}" for name in measures)
        answer(f"\nBest epoch, judged without labels: {best['epoch']} ({values}), {folder.best_checkpoint}")
    pictures = [folder.curves, folder.clusters]
    for name in engine.results:
        pictures += [folder.rankings(name), folder.visrank(name)]
    if cfg.test.identities:
        pictures.append(folder.identities / "index.html")
    answer("\n".join(["\nPictures:", *(f"  {picture}" for picture in pictures if picture.exists())]))
