"""The answers of people about a folder's images: those given before, kept with the results, and those given now."""

import os
from collections.abc import Sequence
from pathlib import Path

from ..data.corrections import CORRECTIONS, Correction, latest, read_corrections, still_there
from ..labels import CorrectedLabeler, Labeler, combine_answers
from .crops import Crops

__all__ = ["collect_corrections", "correct"]


def collect_corrections(
    crops: Crops, folder: str | os.PathLike[str], file: str | os.PathLike[str] | None = None
) -> list[Correction]:
    """Piles answers up: those that a folder of results keeps, then those of a file.

    Args:
        crops: the images.
        folder: its ``corrections.csv``, if there is one, holds answers of before; those about images that are gone are
            dropped.
        file: new answers.

    Returns:
        Those that stand, in the order in which they were given.

    Raises:
        InputError: a file that is no table of answers.
    """
    given = read_corrections(file) if file else []
    kept = Path(folder, CORRECTIONS)
    is_given = file is not None and kept.exists() and os.path.samefile(kept, file)
    is_kept = os.path.lexists(kept) and not is_given
    before = still_there(read_corrections(kept), crops.paths, crops.root) if is_kept else []
    return latest([*before, *given])


def correct(labeler: Labeler, crops: Crops, corrections: Sequence[Correction]) -> Labeler:
    """Gives the labeler that respects answers about the images; the same one where there are none.

    Args:
        labeler: any.
        crops: the images.
        corrections: in the order in which they were given.

    Raises:
        InputError: answers about other images, or that contradict each other.
    """
    if not corrections:
        return labeler
    return CorrectedLabeler(labeler, combine_answers(corrections, {path: path for path in crops.paths}, crops.root))
