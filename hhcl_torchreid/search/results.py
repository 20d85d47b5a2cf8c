"""A whole search, and what it leaves to look at: a table, a CSV file and a picture per query."""

import os
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw
from tqdm import tqdm

from ..clustering.neighbors import check_features
from ..data.folder import find_images
from ..data.images import UNREADABLE, check_readable, open_image
from ..errors import InputError
from ..features.extractor import FeatureExtractor
from ..files import csv_text, visible, writing
from .gallery import Gallery, beside, load_gallery
from .ranking import Ranking, rank

__all__ = ["COLUMNS", "draw_ranking", "search", "table", "write_csv"]

COLUMNS = ("query", "rank", "match", "similarity")
SHOWN_QUERIES = 20

# As torchreid.utils.visualize_ranked_results lays its pictures out, in pixels. It frames matches in green and red by
# their identities; here nobody knows those.
PICTURE_HEIGHT = 256
GRID_SPACING = 10
QUERY_EXTRA_SPACING = 90
FRAME_WIDTH = 5
QUERY_FRAME = "black"
MATCH_FRAME = "#8a94a3"
CAPTION_HEIGHT = 18
WIDEST_PICTURE = 65_500  # JPEG has no wider ones


def search(
    extractor: FeatureExtractor,
    queries: Sequence[str | os.PathLike[str]],
    gallery: str | os.PathLike[str],
    topk: int = 10,
    out: str | os.PathLike[str] = "log/search",
) -> list[Ranking]:
    """Ranks a gallery for every query and prints the matches.

    ``out`` receives ``search.csv`` and a picture per query in ``rankings/``, numbered in the order of the queries.

    Args:
        extractor: makes the features.
        queries: image files, or folders of them.
        gallery: folder of images; see :func:`load_gallery` for where its features are kept.
        topk: matches per query.
        out: folder for what is written.

    Returns:
        A ranking per query.

    Raises:
        InputError: a query that is no image, a gallery without images, a model whose features are no numbers, ``out``
            cannot be written.
    """
    if topk < 1:
        raise InputError(f"--topk is {topk}: ask for 1 match or more")
    folder = Path(out)
    with writing(folder, option="--out"):
        folder.mkdir(parents=True, exist_ok=True)
    query_paths = _find_queries(queries)
    query_features = check_features(extractor(query_paths)).cpu().numpy()
    found = load_gallery(gallery, extractor)
    _print_gallery(gallery, found)
    rankings = rank(query_paths, query_features, found, topk)
    print(table(rankings))
    write_csv(rankings, folder / "search.csv")
    _draw_rankings(rankings, folder / "rankings", extractor.image_size)
    print(f"\n{folder / 'search.csv'} holds all matches, {folder / 'rankings'} a picture per query")
    return rankings


def _find_queries(queries: Sequence[str | os.PathLike[str]]) -> list[Path]:
    found: list[Path] = []
    for query in queries:
        path = Path(query).expanduser()
        if path.is_dir():
            found += find_images(path)
        elif path.is_file():
            found.append(path)
        else:
            raise InputError(f"no query {visible(path)}: give image files, or folders of them")
    return found


def _print_gallery(folder: str | os.PathLike[str], gallery: Gallery) -> None:
    kept = f"Features are kept in {gallery.cache}"
    if gallery.cache is None:
        kept = f"Features are not kept: neither {beside(folder)} nor the user's cache folder can be written"
    elif gallery.cache != beside(folder):
        kept += f", because {beside(folder)} cannot be written"
    print(f"Gallery: {len(gallery.paths):,} images; features extracted anew: {gallery.num_extracted:,}")
    print(visible(kept))
    if gallery.unreadable:
        named = ", ".join(visible(path) for path in gallery.unreadable[:5])
        more = ", ..." if len(gallery.unreadable) > 5 else ""
        print(f"Left out {len(gallery.unreadable):,} unreadable image(s): {named}{more}")


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
    with writing(path, option="--out"):
        Path(path).write_text(csv_text(COLUMNS, rows), encoding="utf-8", newline="")


def _draw_rankings(rankings: Sequence[Ranking], folder: Path, image_size: tuple[int, int]) -> None:
    with writing(folder, option="--out"):
        folder.mkdir(exist_ok=True)
    digits = len(str(len(rankings)))
    for number, ranking in enumerate(
        tqdm(rankings, desc="draw rankings", unit="img", disable=None, leave=False), start=1
    ):
        name = os.fsdecode(os.fsencode(ranking.query.stem)[:200])  # file systems end names at 255 bytes
        picture = draw_ranking(ranking, image_size)
        with writing(folder, option="--out"):
            picture.save(folder / f"{number:0{digits}}_{name}.jpg", quality=90)


def draw_ranking(ranking: Ranking, image_size: tuple[int, int]) -> Image.Image:
    """Draws a ranking as torchreid does: the query on the left, a gap, then its matches, framed in a neutral colour.

    Args:
        ranking: query and matches; a match's similarity is written below it. Of very many, the first ones are drawn.
        image_size: height and width that the model takes; the picture keeps their proportion.

    Returns:
        The picture.

    Raises:
        InputError: an image has vanished.
    """
    height, width = PICTURE_HEIGHT, round(PICTURE_HEIGHT * image_size[1] / image_size[0])
    step = width + GRID_SPACING
    matches = ranking.matches[: (WIDEST_PICTURE - width - QUERY_EXTRA_SPACING) // step]
    size = (width + QUERY_EXTRA_SPACING + len(matches) * step, height + CAPTION_HEIGHT)
    picture = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(picture)
    picture.paste(_framed(ranking.query, width, height, QUERY_FRAME))
    pen.text((width / 2, height + CAPTION_HEIGHT / 2), "query", "black", anchor="mm")
    for place, match in enumerate(matches, start=1):
        left = place * step + QUERY_EXTRA_SPACING
        picture.paste(_framed(match.path, width, height, MATCH_FRAME), (left, 0))
        pen.text((left + width / 2, height + CAPTION_HEIGHT / 2), f"{match.similarity:.3f}", "black", anchor="mm")
    return picture


def _framed(path: Path, width: int, height: int, colour: str) -> Image.Image:
    try:
        image = open_image(path)
    except UNREADABLE:
        check_readable([str(path)])
        raise
    framed = Image.new("RGB", (width, height), colour)
    inner = (width - 2 * FRAME_WIDTH, height - 2 * FRAME_WIDTH)
    framed.paste(image.resize(inner, Image.Resampling.BICUBIC), (FRAME_WIDTH, FRAME_WIDTH))
    return framed
