"""A picture per query: the query, and beside it what was found, the most similar first."""

import os
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw

from ..data.images import UNREADABLE, check_readable, open_image
from ..files import replacing
from ..log import progress_bar
from .ranking import Ranking

__all__ = ["draw_ranking", "draw_rankings"]

# As torchreid.utils.visualize_ranked_results lays its pictures out, in pixels. It frames matches in green and red by
# their identities; here nobody knows those.
PICTURE_HEIGHT = 256
GRID_SPACING = 10
QUERY_EXTRA_SPACING = 90
FRAME_WIDTH = 5
QUERY_FRAME = "black"
MATCH_FRAME = "#8a94a3"
CAPTION_HEIGHT = 18
MOST_ELONGATED = 4  # of height and width, the longer by the shorter
WIDEST_PICTURE = 65_500  # JPEG has no wider ones


def draw_rankings(rankings: Sequence[Ranking], folder: str | Path, image_size: tuple[int, int]) -> None:
    """Writes a picture per query, numbered in the order of the queries.

    Args:
        rankings: what was found.
        folder: for the pictures; made if need be.
        image_size: as for :func:`draw_ranking`.

    Raises:
        InputError: an image has vanished, or the folder cannot be written.
    """
    digits = len(str(len(rankings)))
    progress = progress_bar(rankings, desc="draw rankings", unit="img", leave=False)
    for number, ranking in enumerate(progress, start=1):
        name = os.fsdecode(os.fsencode(ranking.query.stem)[:200])  # file systems end names at 255 bytes
        picture = draw_ranking(ranking, image_size)
        with replacing(Path(folder, f"{number:0{digits}}_{name}.jpg"), "wb", option="--out") as file:
            picture.save(file, format="JPEG", quality=90)


def draw_ranking(ranking: Ranking, image_size: tuple[int, int]) -> Image.Image:
    """Draws a ranking as torchreid does: the query on the left, a gap, then its matches, framed in a neutral colour.

    Args:
        ranking: query and matches; a match's similarity is written below it. Of very many, the first ones are drawn.
        image_size: height and width that the model takes; the picture keeps their proportion, up to 4 to 1.

    Returns:
        The picture.

    Raises:
        InputError: an image has vanished.
    """
    proportion = min(max(image_size[1] / image_size[0], 1 / MOST_ELONGATED), MOST_ELONGATED)
    height, width = PICTURE_HEIGHT, round(PICTURE_HEIGHT * proportion)
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
