"""torchreid's video data sets as images with tracks, under the same names."""

from collections.abc import Iterable
from typing import Any, ClassVar

import torchreid

from ..._torchreid import video_datasets
from ..tracks import Sighting

__all__ = ["FRAMES_OF_VIDEO"]

Tracklets = Iterable[tuple[tuple[str, ...], int, int, int]]


class _FramesOfVideo(torchreid.data.ImageDataset):
    """The frames of a video data set of torchreid's, each an image, each tracklet a track.

    Training images are all frames; query and gallery are the middle frame of each tracklet, sorted by name. Frames of
    these sets are counted within their tracklet, so nothing is known of who was seen together.

    Attributes:
        name (str): torchreid's.
        sightings (dict): path of a training image -> its :class:`~hhcl_torchreid.data.tracks.Sighting`.
    """

    name: ClassVar[str]
    dataset_dir: ClassVar[str]
    sightings: ClassVar[dict[str, Sighting]]

    def __init__(self, root: str = "", **kwargs: Any) -> None:
        # Its own base class wants a transform, and has no other use for one here.
        video = video_datasets()[self.name](root=root, mode="train", transform=lambda image: image, verbose=False)
        train = [(path, identity, camera) for paths, identity, camera, *_ in video.train for path in sorted(paths)]
        type(self).sightings = {
            path: Sighting(f"camera {camera}", str(number))
            for number, (paths, _, camera, *_) in enumerate(video.train)
            for path in paths
        }
        super().__init__(train, _middle_frames(video.query), _middle_frames(video.gallery), **kwargs)


def _middle_frames(tracklets: Tracklets) -> list[tuple[str, int, int]]:
    return [(sorted(paths)[len(paths) // 2], identity, camera) for paths, identity, camera, *_ in tracklets]


FRAMES_OF_VIDEO: dict[str, type[_FramesOfVideo]] = {
    name: type(
        f"FramesOf{video.__name__}",
        (_FramesOfVideo,),
        {"name": name, "dataset_dir": video.dataset_dir, "sightings": {}},
    )
    for name, video in video_datasets().items()
}
"""Name -> class, for each video data set that torchreid has."""
