"""The door of labels: what a labeler is given, what it gives, and how one is found by its name."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from ..data.tracks import Sighting
from ..errors import InputError

__all__ = [
    "LABELERS",
    "Images",
    "Labeler",
    "TrueLabels",
    "build_labeler",
    "choose_labeler",
    "keep_apart",
    "register_labeler",
]

UNKNOWN = -1


@dataclass(frozen=True)
class Images:
    """What is known of each of N training images but who is on it: identities cannot leak from here.

    All numbers are int64 tensors on the CPU, -1 where nothing is known.
    """

    paths: tuple[str, ...]
    cameras: Tensor
    """(N,) the camera, numbered over all data sets: no two of them share one."""
    datasets: Tensor
    """(N,) the data set."""
    tracks: Tensor
    """(N,) the track of a tracker, numbered over all cameras."""
    frames: Tensor
    """(N,) the frame of the camera's video."""
    boxes: Tensor | None = None
    """(N, 4) float32, left, top, width and height in that frame, pixels, NaN where not known; None: of no image."""

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def have_tracks(self) -> bool:
        """Whether the track of any image is known."""
        return bool((self.tracks != UNKNOWN).any())

    def part(self, rows: Tensor) -> "Images":
        """Some of the images, by ``(M,)`` int64 rows."""
        cameras, datasets, tracks, frames = (table[rows] for table in self._tables)
        boxes = None if self.boxes is None else self.boxes[rows]
        return Images(tuple(self.paths[row] for row in rows.tolist()), cameras, datasets, tracks, frames, boxes)

    def beside(self, others: int) -> "Images":
        """These, and behind them images of which nothing is known."""
        unknown = torch.full((others,), UNKNOWN)
        boxes = None if self.boxes is None else torch.cat([self.boxes, torch.full((others, 4), math.nan)])
        cameras, datasets, tracks, frames = (torch.cat([table, unknown]) for table in self._tables)
        return Images((*self.paths, *[""] * others), cameras, datasets, tracks, frames, boxes)

    @property
    def _tables(self) -> tuple[Tensor, ...]:
        return self.cameras, self.datasets, self.tracks, self.frames

    @classmethod
    def of_records(
        cls, records: Sequence[tuple[str, int, int, int]], sightings: Mapping[str, Sighting] | None = None
    ) -> "Images":
        """Takes torchreid's (path, pid, camid, dsetid), kept apart by :func:`keep_apart`, without the identities.

        Args:
            records: of N images.
            sightings: what is known of tracks, by path; a track counts within its camera.
        """
        records = keep_apart(records)
        paths, _, cameras, datasets = zip(*records, strict=True)
        return cls.of_sightings(paths, cameras, datasets, [(sightings or {}).get(path) for path in paths])

    @classmethod
    def of_sightings(
        cls,
        paths: Sequence[str],
        cameras: Sequence[int],
        datasets: Sequence[int],
        sightings: Sequence[Sighting | None],
    ) -> "Images":
        """Numbers the tracks of sightings, over all cameras in the order of their cameras and names.

        Args:
            paths: of N images.
            cameras: their numbers; no two data sets share one.
            datasets: likewise.
            sightings: None where nothing is known.
        """
        names = [seen.track if seen else "" for seen in sightings]
        known = sorted({(camera, name) for camera, name in zip(cameras, names, strict=True) if name})
        number = {track: i for i, track in enumerate(known)}
        tracks = [number.get(track, UNKNOWN) for track in zip(cameras, names, strict=True)]
        frames = [seen.frame if seen else UNKNOWN for seen in sightings]
        boxes = [(seen.box if seen else None) or (math.nan,) * 4 for seen in sightings]
        nowhere = all(math.isnan(box[0]) for box in boxes)
        return cls(
            tuple(paths),
            cameras=torch.tensor(cameras),
            datasets=torch.tensor(datasets),
            tracks=torch.tensor(tracks),
            frames=torch.tensor(frames),
            boxes=None if nowhere else torch.tensor(boxes, dtype=torch.float32),
        )


def keep_apart(records: Sequence[tuple[str, int, int, int]]) -> list[tuple[str, int, int, int]]:
    """Gives no two data sets an identity or a camera in common; torchreid counts on from those of the one before.

    Args:
        records: torchreid's (path, pid, camid, dsetid).

    Returns:
        The same, as they are where they are of one data set; else with identities and cameras numbered anew, but for
        unknown ones, which are negative.
    """
    paths, *columns = zip(*records, strict=True)
    identities, cameras, datasets = (tuple(map(int, column)) for column in columns)
    if len(set(datasets)) > 1:
        identities, cameras = (_number_pairs(datasets, numbers) for numbers in (identities, cameras))
    return list(zip(paths, identities, cameras, datasets, strict=True))


def _number_pairs(datasets: Sequence[int], numbers: Sequence[int]) -> tuple[int, ...]:
    pairs = list(zip(datasets, numbers, strict=True))
    place = {pair: position for position, pair in enumerate(sorted(set(pairs)))}
    return tuple(number if number < 0 else place[dataset, number] for dataset, number in pairs)


class Labeler(Protocol):
    """Turns features into pseudo labels, once per epoch.

    In a run of several processes all of them call it, with the same features, and all must come to the same labels.

    See Also:
        :func:`register_labeler`: makes one known to ``engine.labels``.
    """

    @property
    def settings(self) -> Mapping[str, Any]:
        """Plain values by name, for pages and messages."""

    def __call__(self, features: Tensor, images: Images | None = None) -> Tensor:
        """Labels ``(N, D)`` unit rows: ``(N,)`` int64, clusters 0, 1, ... without gaps; -1 marks an outlier."""

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs of the epochs before; tensors and plain values."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes back what :meth:`state_dict` gave."""


LABELERS: dict[str, Callable[[Any], Labeler]] = {}
"""Name, as ``engine.labels`` says it -> what builds the labeler from a configuration."""


def register_labeler(name: str, build: Callable[[Any], Labeler] | None = None) -> Any:
    """Makes a labeler known by a name, as torchreid does with data sets; a decorator where ``build`` is left out.

    Args:
        name: for ``engine.labels``.
        build: takes the configuration (``get_default_config()`` and what was set) and gives a :class:`Labeler`.

    Raises:
        InputError: the name is taken.

    Examples::

        register_labeler("kmeans", lambda cfg: KMeansLabeler(num_clusters=500))
    """
    if build is None:
        return lambda decorated: register_labeler(name, decorated)
    if name in LABELERS:
        raise InputError(f"there is a labeler {name!r} already: choose another name")
    LABELERS[name] = build
    return build


def build_labeler(name: str, cfg: Any) -> Labeler:
    """Builds a labeler by its name.

    It is given the configuration without ``cluster.corrections``, which are respected around any labeler.

    Args:
        name: one of ``LABELERS``.
        cfg: the configuration.

    Raises:
        InputError: an unknown name, or settings that the labeler refuses.
    """
    if name not in LABELERS:
        raise InputError(f"engine.labels is {name!r}: choose one of {', '.join(LABELERS)}")
    cfg = cfg.clone()
    cfg.cluster.pop("corrections", None)
    return LABELERS[name](cfg)


class TrueLabels:
    """The identities themselves in place of pseudo labels: what could be had with labels, the paper's upper row.

    Attributes:
        identities: (N,) int of all images, handed over by :meth:`learn_from`.
    """

    def __init__(self) -> None:
        self.identities: Sequence[int] = ()

    def learn_from(self, identities: Sequence[int]) -> None:
        """Takes the identities, which no other labeler ever sees.

        Raises:
            InputError: an image has none.
        """
        unlabelled = sum(identity < 0 for identity in identities)
        if unlabelled:
            raise InputError(f"{unlabelled} training images have no true label: set engine.labels to 'clusters'")
        self.identities = identities

    @property
    def settings(self) -> Mapping[str, Any]:
        """None."""
        return {}

    def __call__(self, features: Tensor, images: Images | None = None) -> Tensor:
        """Numbers the identities 0, 1, ... in their order."""
        return torch.from_numpy(np.unique(np.asarray(self.identities), return_inverse=True)[1].reshape(-1))

    def state_dict(self) -> dict[str, Any]:
        """Nothing: the identities come from the data set."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes nothing back."""


def choose_labeler(labeler: Labeler | None, name: str, cfg: Any, identities: Sequence[int]) -> Labeler:
    """Takes a labeler, or builds the one of a name; hands the identities to the one that learns from them.

    Args:
        labeler: taken in place of ``"clusters"``.
        name: one of ``LABELERS``.
        cfg: the configuration to build it from.
        identities: (N,) int of the training images.

    Raises:
        InputError: an unknown name, or an image without identity where those are learned from.
    """
    chosen = labeler if labeler and name == "clusters" else build_labeler(name, cfg)
    if isinstance(chosen, TrueLabels):
        chosen.learn_from(identities)
    return chosen


register_labeler("identities", lambda _: TrueLabels())
