"""A whole search: queries and a gallery in; a table, a CSV file and a picture per query out."""

import logging
import os
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from ..clustering.neighbors import check_features
from ..data.folder import find_images
from ..data.tracks import Sighting, find_sightings
from ..errors import InputError
from ..features.extractor import FeatureExtractor
from ..features.folder import FolderFeatures, beside, by_camera_in_folder, features_of_folder
from ..files import check_folder, csv_text, expanded, replacing, visible
from ..log import answer
from .pictures import draw_rankings
from .ranking import Ranking, rank

__all__ = ["COLUMNS", "search", "table", "write_csv"]

logger = logging.getLogger(__name__)

COLUMNS = ("query", "rank", "match", "similarity")
SHOWN_QUERIES = 20


def search(
    extractor: FeatureExtractor,
    queries: Sequence[str | os.PathLike[str]],
    gallery: str | os.PathLike[str],
    topk: int = 10,
    out: str | os.PathLike[str] = "log/search",
    track_regex: str = "",
    camera_regex: str = "",
    camera_bn: int | None = None,
) -> list[Ranking]:
    """Ranks a gallery for every query and prints the matches.

    ``out`` receives ``search.csv`` and a picture per query in ``rankings/``, numbered in the order of the queries.

    Args:
        extractor: makes the features.
        queries: image files, or folders of them.
        gallery: folder of images; :func:`~hhcl_torchreid.features.folder.features_of_folder` says where its features
            are kept.
        topk: matches per query.
        out: folder for what is written.
        track_regex: names tracks, see :func:`~hhcl_torchreid.data.tracks.find_sightings`; where they are known, each is
            found once.
        camera_regex: likewise, cameras alone.
        camera_bn: batches of each camera for its own batch-norm statistics in the gallery's features and in those of
            queries that are in it, see :func:`~hhcl_torchreid.features.features_by_camera`; 0 for those of the model.
            If None, the extractor's own.

    Returns:
        A ranking per query.

    Raises:
        InputError: a query that is no image, a gallery without images, a model whose features are no numbers, or a
            ``camera_bn`` that it does not allow; ``out`` cannot be written or lies in the gallery.
    """
    if topk < 1:
        raise InputError(f"--topk is {topk}: ask for 1 match or more")
    folder = Path(out)
    check_folder(folder, gallery)
    query_paths = _find_queries(queries)
    find_sightings(find_images(gallery), gallery, camera_regex, track_regex)  # what fails is told before the work
    query_features = check_features(extractor(query_paths))
    found = features_of_folder(gallery, extractor, "extract gallery features")
    _tell_of_gallery(gallery, found)
    sightings = [seen or Sighting("") for seen in find_sightings(found.paths, gallery, camera_regex, track_regex)]
    cameras, num_batches = [seen.camera for seen in sightings], extractor.camera_bn if camera_bn is None else camera_bn
    aligned = by_camera_in_folder(gallery, extractor, found.paths, found.features, cameras, num_batches)
    query_features = _as_in_gallery(query_paths, query_features, found.paths, aligned)
    found = found._replace(features=aligned)
    tracks = [(seen.camera, seen.track) if seen.track else None for seen in sightings]
    if any(tracks):
        logger.info(f"One match per track: {len(set(tracks) - {None}):,} tracks")
    rankings = rank(query_paths, query_features, found, topk, tracks)
    answer(table(rankings))
    write_csv(rankings, folder / "search.csv")
    draw_rankings(rankings, folder / "rankings", extractor.image_size)
    answer(f"\n{folder / 'search.csv'} holds all matches, {folder / 'rankings'} a picture per query")
    return rankings


def _as_in_gallery(queries: Sequence[Path], features: Tensor, gallery: Sequence[Path], of_gallery: Tensor) -> Tensor:
    """The features of queries, of those that are in the gallery its own."""
    row_of = {os.path.realpath(path): row for row, path in enumerate(gallery)}
    rows = torch.tensor([row_of.get(os.path.realpath(path), -1) for path in queries], device=features.device)
    return torch.where((rows >= 0)[:, None], of_gallery[rows.clamp(min=0)], features)


def _find_queries(queries: Sequence[str | os.PathLike[str]]) -> list[Path]:
    found: list[Path] = []
    for query in queries:
        path = expanded(query)
        if path.is_dir():
            found += find_images(path)
        elif path.is_file():
            found.append(path)
        else:
            raise InputError(f"no query {visible(path)}: give image files, or folders of them")
    return found


def _tell_of_gallery(folder: str | os.PathLike[str], gallery: FolderFeatures) -> None:
    kept = f"Features are kept in {gallery.kept_in}"
    if gallery.kept_in is None:
        kept = f"Features are not kept: neither {beside(folder)} nor the user's cache folder can be written"
    elif gallery.kept_in != beside(folder):
        kept += f", because {beside(folder)} cannot be written"
    logger.info(f"Gallery: {len(gallery.paths):,} images; features extracted anew: {gallery.num_extracted:,}")
    logger.info(visible(kept))
    if gallery.unreadable:
        named = ", ".join(visible(path) for path in gallery.unreadable[:5])
        more = ", ..." if len(gallery.unreadable) > 5 else ""
        logger.warning(f"Left out {len(gallery.unreadable):,} unreadable image(s): {named}{more}")


def table(rankings: Sequence[Ranking]) -> str:
    """The rankings as plain text; of many queries, the first ones."""
    lines: list[str] = []
    for ranking in rankings[:SHOWN_QUERIES]:
        lines += ["", f"query {visible(ranking.query)}", "  rank  similarity  match"]
        lines += [
            f"  {place:>4}  {match.similarity:>10.4f}  {visible(match.path)}"
            for place, match in enumerate(ranking.matches, start=1)
        ]
        if not ranking.matches:
            lines.append("  the gallery holds nothing but the query itself")
    if len(rankings) > SHOWN_QUERIES:
        lines += ["", f"... and {len(rankings) - SHOWN_QUERIES:,} more queries"]
    return "\n".join(lines)


def write_csv(rankings: Sequence[Ranking], path: str | Path) -> None:
    """Writes one line per match: query, rank, match, similarity.

    Odd names are written as :func:`~hhcl_torchreid.files.csv_text` says.

    Args:
        rankings: what was found.
        path: the CSV file, UTF-8.

    Raises:
        InputError: it cannot be written.
    """
    rows = [
        (ranking.query, place, match.path, f"{match.similarity:.6f}")
        for ranking in rankings
        for place, match in enumerate(ranking.matches, start=1)
    ]
    with replacing(path, option="--out") as file:
        file.write(csv_text(COLUMNS, rows))
