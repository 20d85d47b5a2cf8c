"""Files that come with the package: in a wheel inside of it, in a checkout beside it."""

import os
from pathlib import Path

__all__ = ["find_resource", "resource_folder"]


def resource_folder(name: str) -> Path:
    """Gives the folder of the configurations (``configs``) or of the demo's weights (``weights``)."""
    inside = Path(__file__).parent / name
    return inside if inside.is_dir() else Path(__file__).parents[1] / name


def find_resource(path: str, folder: str) -> str:
    """Finds a file that is given by its path, or by its name among those that come with the package.

    Args:
        path: of any file; or ``NAME`` or ``FOLDER/NAME`` of one that comes along. A file of the user's goes first.
        folder: as for :func:`resource_folder`.

    Returns:
        Where the file is; ``path`` as it was where there is none.
    """
    known = resource_folder(folder) / Path(path).name
    names_ours = Path(path).parts in ((known.name,), (folder, known.name))
    return str(known) if names_ours and not os.path.exists(path) and os.path.isfile(known) else path
