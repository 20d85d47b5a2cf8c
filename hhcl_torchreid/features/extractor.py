"""Features of images that are files, arrays or tensors, from a model that has been trained."""

import logging
import math
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from numbers import Real
from typing import Any, NamedTuple, TypeAlias, cast

import joblib
import numpy as np
import torch
import torchreid
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import functional as image_functional
from yacs.config import CfgNode

from ..checkpoint import configuration_in, load_checkpoint
from ..data.images import UNREADABLE, DecodedImages, check_readable, open_image, to_rgb
from ..data.store import ImageStore
from ..errors import InputError, explain_out_of_memory
from ..log import progress_bar
from ..models import (
    ReIDModel,
    backbone_named_in,
    build_model,
    find_backbone,
    find_state_dict,
    load_from,
    settings_seen_in,
)
from .by_camera import SeenByCameras, features_by_camera
from .embedder import Embedder
from .precision import choose_precision

__all__ = ["FeatureExtractor"]

logger = logging.getLogger(__name__)

Picture: TypeAlias = str | os.PathLike[str] | np.ndarray | Image.Image | Tensor

ARRAY_SHAPES = "(height, width, 3) RGB, (height, width, 4) RGBA or (height, width) grey"
ROOM_ELSEWHERE = "free memory there, or use device cpu"
DEFAULT_SIZE = (256, 128)
PICTURES_AT_ONCE = 64  # that a process decodes before it hands them over


class FeatureExtractor:
    """Turns images into feature vectors; used like ``torchreid.utils.FeatureExtractor``.

    It is called with any of these, which mean what they mean to torchreid:

    - a path, a ``numpy.ndarray`` (H, W, 3), a ``PIL.Image``, or a list of them: pictures of any size. Arrays are uint8
      in the order **RGB**; an array of ``cv2.imread`` is BGR, so pass ``array[:, :, ::-1]``. Pictures are resized
      (bicubic, as in training and evaluation by the engine) and normalised here.
    - a floating-point ``torch.Tensor`` (B, C, H, W) or (C, H, W), or a list of (C, H, W): goes into the network **as it
      is**, so it must be resized and normalised already.
    - a uint8 ``torch.Tensor`` of such a shape: RGB pixels, treated as pictures. (torchreid has no meaning for these.)

    Returned is a ``torch.Tensor`` (N, D) of float32 rows of unit length, on the extractor's device.

    Args:
        model_name (str): a backbone of torchreid's factory, or timm/NAME. Needed only for files of weights alone: a
            checkpoint of this package says it itself.
        model_path (str): checkpoint or weights; empty for the backbone's pretrained weights. Pooling, embedding layer,
            BNNeck, image size and normalisation come from the configuration in the checkpoint; a warning names what is
            asked for and differs. In a file of weights alone, such as other programs save, the layers are those that it
            has weights for, and the rest is as that program builds it.
        image_size (sequence or int): image height and width, pixels. Default is the checkpoint's, else (256, 128).
        pixel_mean (list): pixel mean for normalization. Default is the checkpoint's, else ImageNet's.
        pixel_std (list): pixel std for normalization. Default is the checkpoint's, else ImageNet's.
        pixel_norm (bool): whether to normalize pixels; if not, they are only scaled to 0 to 1.
        device (str): 'cpu' or 'cuda' (could be specific gpu devices). Default is the GPU where there is one.
        verbose (bool): show model details.
        batch_size (int): pictures that are decoded and moved to the device together; features do not depend on it.
        workers (int): processes that decode when there is more than one batch of pictures. Default is one per
            processor, at most 8.
        amp (str): arithmetic of the network, see :func:`~hhcl_torchreid.features.precision.choose_precision`. Default
            is the checkpoint's, where this device can do it, else "off".

    Attributes:
        model (ReIDModel): the network, in evaluation mode.
        image_size (tuple[int, int]): height and width, pixels.
        pixel_mean (list[float]): of the three channels, on the scale 0 to 1; zeros without ``pixel_norm``.
        pixel_std (list[float]): likewise; ones without ``pixel_norm``.
        device (torch.device): where the network is.
        embedder (Embedder): network, normalisation and arithmetic.
        camera_bn (int): the checkpoint's ``test.camera_bn``, else 0: batches for :meth:`by_camera`.

    Raises:
        InputError: a file that is no checkpoint, or of another backbone than ``model_name``; an unknown name; a device
            that is not there, or is full.

    Examples::

        from hhcl_torchreid import FeatureExtractor

        extractor = FeatureExtractor(model_path='log/hhcl_r50_market/model/model-best.pth.tar')
        features = extractor(['a/b/c/image001.jpg', 'a/b/c/image002.jpg'])
        print(features.shape) # output (2, 2048)
        print(features @ features.T) # similarities, at most 1
    """

    def __init__(
        self,
        model_name: str = "",
        model_path: str | os.PathLike[str] = "",
        image_size: Sequence[int] | int | None = None,
        pixel_mean: Sequence[float] | None = None,
        pixel_std: Sequence[float] | None = None,
        pixel_norm: bool = True,
        device: str | torch.device | None = None,
        verbose: bool = True,
        batch_size: int = PICTURES_AT_ONCE,
        workers: int | None = None,
        amp: str | None = None,
    ) -> None:
        self.model, trained_on = _load_model(model_name, model_path, image_size, verbose)
        self.image_size = trained_on.image_size
        mean = trained_on.pixel_mean if pixel_mean is None else pixel_mean
        std = trained_on.pixel_std if pixel_std is None else pixel_std
        self.pixel_mean, self.pixel_std = _three_numbers(mean, "mean"), _three_numbers(std, "standard deviation", 1e-6)
        if not pixel_norm:
            self.pixel_mean, self.pixel_std = [0.0] * 3, [1.0] * 3
        if trained_on.config is not None:
            _name_other_settings(self, trained_on.config, model_path)
        self.camera_bn = 0 if trained_on.config is None else trained_on.config.test.camera_bn
        self.batch_size = batch_size
        self.workers = min(8, joblib.cpu_count()) if workers is None else workers
        self.model.eval()
        if verbose:
            num_parameters, operations = torchreid.utils.compute_model_complexity(self.model, (1, 3, *self.image_size))
            logger.info(f"Model: {self.model.name}\n- params: {num_parameters:,}\n- flops: {operations:,}")
        self.device = _choose_device(device)
        precision = _precision(amp, trained_on.amp, self.device)
        with explain_out_of_memory(f"moving the model to {self.device}", ROOM_ELSEWHERE):
            self.model.to(self.device)
            self.embedder = Embedder(self.model, self.pixel_mean, self.pixel_std, precision)

    @explain_out_of_memory("extracting features", ROOM_ELSEWHERE)
    def __call__(self, input: Picture | Sequence[Picture]) -> Tensor:
        """Extracts features.

        Args:
            input: pictures or tensors, as the class describes them.

        Returns:
            (N, D) float32 rows of unit length.

        Raises:
            InputError: files that are no images (the first few are named), arrays or tensors of another dtype or shape.
            TypeError: something else than the class describes.
        """
        if isinstance(input, (list, tuple)):
            if input and all(_is_normalized(element) for element in input):
                return self.embedder.embed(_stack(input))
            return self._extract(input, "extract features", skip_unreadable=False)[0]
        if isinstance(input, Tensor):
            batch = input if input.dim() == 4 else input.unsqueeze(0)
            if _is_normalized(input):
                return self.embedder.embed(batch)
            return self._extract(list(batch), "extract features", skip_unreadable=False)[0]
        return self._extract([cast(Picture, input)], "extract features", skip_unreadable=False)[0]

    @explain_out_of_memory("extracting features", ROOM_ELSEWHERE)
    def extract_readable(
        self, pictures: Sequence[Picture], description: str = "extract features"
    ) -> tuple[Tensor, Tensor]:
        """Extracts features of what can be read, for collections in which a broken file is no reason to stop.

        Args:
            pictures: paths, arrays, PIL images or uint8 tensors.
            description: what the progress bar says.

        Returns:
            (M, D) float32 rows of unit length, and (N,) bool on the CPU: which M of the N pictures they belong to.
        """
        return self._extract(pictures, description, skip_unreadable=True)

    @explain_out_of_memory("the batch-norm statistics of cameras", ROOM_ELSEWHERE)
    def by_camera(
        self, paths: Sequence[str | os.PathLike[str]], features: Tensor, cameras: Tensor, num_batches: int
    ) -> Tensor:
        """Gives features of image files by their cameras' own batch-norm statistics.

        Args:
            paths: N files that can be read.
            features: (N, D) float32 unit rows, what the extractor gives for them.
            cameras: (N,) int64.
            num_batches: of each camera, see :func:`~hhcl_torchreid.features.features_by_camera`.

        Returns:
            (N, D) float32 unit rows, for the same files in the same order always the same; ``features`` itself where
            there are no two cameras.

        Raises:
            InputError: a number of batches below 0, a model without batch norm, files that are no images any more.
        """
        images = DecodedImages([(os.fspath(path), 0, 0, 0) for path in paths], *self.image_size)
        store = ImageStore(images, "auto", self.workers, self.device)
        return features_by_camera(self.embedder, [SeenByCameras(store, cameras, features)], num_batches)[0]

    def _extract(self, pictures: Sequence[Picture], description: str, skip_unreadable: bool) -> tuple[Tensor, Tensor]:
        for picture in pictures:
            _check_picture(picture)
        num_batches = -(-len(pictures) // self.batch_size)
        loader = DataLoader(
            _Pixels(pictures, *self.image_size),
            batch_size=self.batch_size,
            num_workers=min(self.workers, num_batches) if num_batches > 1 else 0,
            pin_memory=self.device.type == "cuda",
        )
        readable = [torch.empty(0, dtype=torch.bool)]
        is_short, total = num_batches <= 1, len(pictures)
        with progress_bar(is_short=is_short, total=total, desc=description, unit="img", leave=False) as progress:
            features = self.embedder.of_batches(_readable_only(loader, readable, skip_unreadable, progress))
        is_readable = torch.cat(readable)
        if not skip_unreadable:
            check_readable([str(pictures[index]) for index in (~is_readable).nonzero().flatten().tolist()])
        return features, is_readable


def _readable_only(
    batches: Iterable[tuple[Tensor, Tensor]], readable: list[Tensor], skip_unreadable: bool, progress: Any
) -> Iterator[Tensor]:
    """The pixels of what could be read; ``readable`` is told which that is."""
    for images, good in batches:
        readable.append(good)
        # Once it is clear that there will be no result, the rest is only decoded, to name the broken files.
        if skip_unreadable or all(part.all() for part in readable):
            yield images[good]
        progress.update(len(good))


def _precision(amp: str | None, amp_of_training: str, device: torch.device) -> torch.dtype:
    if amp is not None:
        return choose_precision(amp, device)
    if amp_of_training == "fp16" and device.type == "cpu":
        return choose_precision("auto", device)
    try:
        return choose_precision(amp_of_training, device)
    except (InputError, TypeError):  # trained on another kind of processor, which had units that this one lacks
        return choose_precision("auto", device)


class _TrainedOn(NamedTuple):
    """What the network saw in training."""

    image_size: tuple[int, int]
    pixel_mean: Sequence[float]
    pixel_std: Sequence[float]
    amp: str
    config: CfgNode | None = None
    """Of a checkpoint of this package."""


def _name_other_settings(extractor: FeatureExtractor, cfg: CfgNode, path: str | os.PathLike[str]) -> None:
    """Warns of what was asked for and is not as in training."""
    others = (
        ("image size", (cfg.data.height, cfg.data.width), extractor.image_size),
        ("pixel mean", cfg.data.norm_mean, extractor.pixel_mean),
        ("pixel deviation", cfg.data.norm_std, extractor.pixel_std),
    )
    for name, trained, asked in others:
        if trained != asked:
            warnings.warn(
                f"{path} was trained with {name} {trained}, and is used with {asked}: leave that out for its own",
                stacklevel=3,
            )


def _load_model(
    name: str, path: str | os.PathLike[str], image_size: Sequence[int] | int | None, verbose: bool
) -> tuple[ReIDModel, _TrainedOn]:
    checkpoint, stored = {}, None
    settings: dict[str, Any] = {"name": name, "last_stride": None, "bnneck": False}
    if path:
        checkpoint = load_checkpoint(path)
        settings["name"] = _name_of_backbone(name, checkpoint, path)
        stored = configuration_in(checkpoint, path)
        if stored is not None:
            settings |= {key: stored.model[key] for key in ("pooling", "last_stride", "embedding_dim", "bnneck")}
            image_size = (stored.data.height, stored.data.width) if image_size is None else image_size
    elif not name:
        raise InputError("no model: give model_path, a checkpoint, or model_name, one of torchreid's")
    size = _height_and_width(image_size or find_backbone(settings["name"]).input_size or DEFAULT_SIZE)
    if path and stored is None:
        settings = settings_seen_in(settings["name"], checkpoint, path, size)
    model = build_model(pretrained=not path, image_size=size, **settings)
    if path:
        loaded = load_from(model, checkpoint, path)
        if verbose:
            logger.info(loaded)
        else:
            loaded.warn_of_missing()
    if stored is None:  # weights alone do not say what they were trained in
        return model, _TrainedOn(size, model.pixel_mean, model.pixel_std, "off")
    return model, _TrainedOn(size, stored.data.norm_mean, stored.data.norm_std, stored.train.amp, stored)


def _name_of_backbone(name: str, checkpoint: Mapping[str, Any], path: str | os.PathLike[str]) -> str:
    stored_name = backbone_named_in(checkpoint)
    if name and stored_name and name != stored_name:
        raise InputError(f"{path} holds weights of {stored_name}, not of {name}: leave the model's name out")
    if not (name or stored_name):
        find_state_dict(checkpoint, path)  # a file that is no checkpoint at all deserves that answer
        raise InputError(f"{path} does not say which backbone its weights are of: give the model's name with it")
    return name or str(stored_name)


class _Pixels(Dataset[tuple[Tensor, bool]]):
    """Pictures as (3, H, W) uint8 of one size, and whether they could be read."""

    def __init__(self, pictures: Sequence[Picture], height: int, width: int) -> None:
        self.pictures = pictures
        self.height = height
        self.width = width

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> tuple[Tensor, bool]:
        try:
            picture = _open(self.pictures[index]).resize((self.width, self.height), Image.Resampling.BICUBIC)
        except UNREADABLE:
            return torch.zeros(3, self.height, self.width, dtype=torch.uint8), False
        return image_functional.pil_to_tensor(picture), True


def _open(picture: Picture) -> Image.Image:
    if isinstance(picture, (str, os.PathLike)):
        return open_image(picture)
    return to_rgb(picture if isinstance(picture, Image.Image) else image_functional.to_pil_image(picture))


def _is_normalized(picture: Any) -> bool:
    return isinstance(picture, Tensor) and picture.is_floating_point()


def _stack(images: Sequence[Any]) -> Tensor:
    shapes = {tuple(image.shape) for image in images}
    if len(shapes) > 1:
        raise InputError(f"tensors of different shapes ({', '.join(map(str, sorted(shapes)))}): make them equal")
    return torch.stack(list(images))


def _check_picture(picture: Any) -> None:
    if isinstance(picture, (str, os.PathLike, Image.Image)):
        return
    if isinstance(picture, np.ndarray):
        is_picture = picture.ndim == 2 or (picture.ndim == 3 and picture.shape[2] in (1, 3, 4))
        if picture.dtype != np.uint8 or not is_picture or 0 in picture.shape:
            raise InputError(
                f"an array of {picture.dtype} and shape {picture.shape} is no picture: give uint8 {ARRAY_SHAPES}"
            )
    elif isinstance(picture, Tensor):
        if picture.dtype != torch.uint8 or picture.dim() != 3 or picture.shape[0] != 3 or 0 in picture.shape:
            raise InputError(
                f"a tensor of {picture.dtype} and shape {tuple(picture.shape)} is no picture: give uint8 pixels "
                "(3, height, width), or a list of normalised floating-point tensors only"
            )
    else:
        raise TypeError(f"a {type(picture).__name__} is no picture: give paths, numpy arrays, PIL images or tensors")


def _height_and_width(size: Sequence[int] | int) -> tuple[int, int]:
    height, width = (size, size) if isinstance(size, int) else size
    if not all(isinstance(side, int) and side > 0 for side in (height, width)):
        raise InputError(f"image size {height} x {width}: give height and width in pixels, such as 256 128")
    return height, width


def _three_numbers(values: Any, name: str, least: float = -math.inf) -> list[float]:
    if (
        not isinstance(values, Sequence | np.ndarray)
        or len(values) != 3
        or not all(isinstance(value, Real) and math.isfinite(value) and float(value) >= least for value in values)
    ):
        at_least = f" of at least {least:g}" if math.isfinite(least) else ""
        raise InputError(f"the pixels' {name} is {values!r}: give three numbers{at_least}, for red, green and blue")
    return list(values)


def _choose_device(device: str | torch.device | None) -> torch.device:
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.zeros(1, device=chosen).item()
    # PyTorch's back ends say in their own ways that they are not there.
    except (RuntimeError, AssertionError, ImportError) as error:
        reason = str(error).strip().splitlines()[0].split(". ")[0]
        raise InputError(
            f"device is {str(device)!r}, which PyTorch cannot use here ({reason}): leave it out, or give cpu, or one "
            "GPU as cuda:0"
        ) from error
    return chosen
