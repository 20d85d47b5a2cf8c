"""A trained model as one file, ONNX or TorchScript: pixels in, unit feature vectors out."""

import contextlib
import copy
import io
import json
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from .data.transforms import normalize_images
from .errors import InputError
from .features.embedder import Embedder
from .features.extractor import FeatureExtractor
from .files import replacing
from .models import ReIDModel

__all__ = ["INPUTS", "TOLERANCE", "export_onnx", "export_torchscript"]

INPUTS = {
    "uint8": ("pixels", "uint8 RGB pixels, 0 to 255"),
    "float": ("images", "float32 RGB, 0 to 1, minus pixel_mean, divided by pixel_std"),
}
"""What a file may take: the input's name, and what it is."""

TOLERANCE = 1e-4  # of each value of the unit feature vectors
CHECKED_BATCH_SIZES = (1, 2, 5)
OPSET = 17
TRACED_BATCH_SIZE = 13  # no layer has so many channels or parts: what is 13 in the graph is the batch


class _Neck(nn.Module):
    """A BNNeck in evaluation mode, for rows whose length tracing loses, as a vision transformer's: ONNX's needs it."""

    mean: Tensor
    scale: Tensor

    def __init__(self, neck: nn.BatchNorm1d) -> None:
        super().__init__()
        statistics = neck.state_dict()
        self.register_buffer("mean", statistics["running_mean"])
        self.register_buffer("scale", statistics["weight"] / (statistics["running_var"] + neck.eps).sqrt())

    def forward(self, features: Tensor) -> Tensor:
        """(B, D) -> (B, D)."""
        return (features - self.mean) * self.scale


class _PixelsToFeatures(nn.Module):
    """The extractor's whole way from pixels, or from normalised images, to features, as one network."""

    mean: Tensor
    std: Tensor

    def __init__(self, extractor: FeatureExtractor, kind: str) -> None:
        super().__init__()
        self.takes_pixels = kind == "uint8"
        # A copy on the CPU, in the memory format that tracing expects; the extractor's own model stays where it is.
        self.model: ReIDModel = copy.deepcopy(extractor.model).cpu().to(memory_format=torch.contiguous_format)
        if self.model.neck is not None:
            self.model.set_submodule("neck", _Neck(self.model.neck))
        self.register_buffer("mean", torch.tensor(extractor.pixel_mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(extractor.pixel_std).view(1, 3, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) uint8, or normalised float32 -> (B, D) float32 unit rows."""
        return self.model((images.float() / 255 - self.mean) / self.std if self.takes_pixels else images)

    def example(self, extractor: FeatureExtractor) -> Tensor:
        """A batch to trace with."""
        dtype = torch.uint8 if self.takes_pixels else torch.float32
        return torch.zeros(TRACED_BATCH_SIZE, 3, *extractor.image_size, dtype=dtype)


def export_onnx(extractor: FeatureExtractor, path: str | os.PathLike[str], kind: str = "uint8") -> float:
    """Writes the extractor's model as an ONNX file, once ONNX Runtime has given the same features as PyTorch.

    The file has one input, (batch, 3, height, width), of images resized (bicubic) to the size that the model was
    trained with, any number at once: ``pixels``, **uint8, RGB, 0 to 255**, or ``images``, **float32, RGB**, normalised
    as the metadata says, which is what most trackers give. It has one output, ``features``: (batch, D) float32 rows of
    unit length. BNNeck and L2 normalisation are inside, and normalisation of the pixels where it takes those. Its
    metadata names ``model_name``, ``height``, ``width``, ``feature_dim``, ``pixel_mean`` and ``pixel_std``.

    Args:
        extractor: the model and its image settings.
        path: the file to write; what stands there is replaced only by a file that has passed the check.
        kind: what the file takes, one of ``INPUTS``.

    Returns:
        The largest difference between a feature of ONNX Runtime and one of PyTorch, at most ``TOLERANCE``.

    Raises:
        InputError: onnx or onnxruntime is not installed, the backbone has a layer that ONNX lacks, the features differ
            or have no length, or the file cannot be written.
    """
    onnx, onnxruntime = _import_onnx()
    network = _PixelsToFeatures(extractor, kind).eval()
    model_bytes = _describe(onnx, _trace(network, extractor, INPUTS[kind][0]), extractor, INPUTS[kind][1])
    session = onnxruntime.InferenceSession(model_bytes, providers=["CPUExecutionProvider"])

    def run(images: Tensor) -> Tensor:
        return torch.from_numpy(session.run(["features"], {INPUTS[kind][0]: images.numpy()})[0])

    return _write_checked(model_bytes, run, network, extractor, path)


def export_torchscript(extractor: FeatureExtractor, path: str | os.PathLike[str], kind: str = "uint8") -> float:
    """Writes the extractor's model as a TorchScript file for ``torch.jit.load``, once it gives the same features.

    It takes and gives what the file of :func:`export_onnx` does; what that has as metadata is the extra file
    ``facts.json`` in it.

    Args:
        extractor: the model and its image settings.
        path: the file to write; what stands there is replaced only by a file that has passed the check.
        kind: what the file takes, one of ``INPUTS``.

    Returns:
        The largest difference between a feature of the file and one of the model, at most ``TOLERANCE``.

    Raises:
        InputError: the backbone cannot be traced, the features differ or have no length, or the file cannot be written.
    """
    network = _PixelsToFeatures(extractor, kind).eval()
    file = io.BytesIO()
    try:
        with torch.no_grad(), _quietly():
            traced = torch.jit.trace(network, network.example(extractor), check_trace=False)
            facts = json.dumps(_facts(extractor, INPUTS[kind][1]))
            torch.jit.save(traced, file, _extra_files={"facts.json": facts})
            loaded = torch.jit.load(io.BytesIO(file.getvalue()))
            loaded(network.example(extractor)[:2])  # ShuffleNets keep the traced number of images
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(
            f"{extractor.model.name} cannot be written as TorchScript ({reason}): use another backbone"
        ) from error
    return _write_checked(file.getvalue(), loaded, network, extractor, path)


def _write_checked(
    content: bytes,
    run: Callable[[Tensor], Tensor],
    network: _PixelsToFeatures,
    extractor: FeatureExtractor,
    path: str | os.PathLike[str],
) -> float:
    difference = _largest_difference(run, network, extractor, path)
    if not difference <= TOLERANCE:
        raise InputError(
            f"the exported {extractor.model.name} gives other features than PyTorch (they differ by {difference:.2g}, "
            f"{TOLERANCE:g} is allowed), so {path} is not written: try another version of torch or onnxruntime"
        )
    with replacing(path, "wb", option="--out") as file:
        file.write(content)
    return difference


def _import_onnx() -> tuple[Any, Any]:
    try:
        import onnx
        import onnxruntime
    except ImportError as error:
        raise InputError(
            f"exporting needs the package {error.name}: pip install 'hhcl-torchreid[export]', or onnx and onnxruntime"
        ) from error
    return onnx, onnxruntime


def _trace(network: _PixelsToFeatures, extractor: FeatureExtractor, input_name: str) -> bytes:
    file: Any = io.BytesIO()  # PyTorch's annotations have forgotten it
    try:
        with torch.no_grad(), _quietly(), _without_output():
            torch.onnx.export(
                network,
                (network.example(extractor),),
                file,
                dynamo=False,
                opset_version=OPSET,
                input_names=[input_name],
                output_names=["features"],
                dynamic_axes={input_name: {0: "batch"}, "features": {0: "batch"}},
            )
    except (RuntimeError, ValueError) as error:  # of which PyTorch's own exporter errors are kinds
        reason = str(error).strip().splitlines()[0]
        raise InputError(
            f"{extractor.model.name} cannot be written as ONNX ({reason}): use another backbone"
        ) from error
    return file.getvalue()


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    with warnings.catch_warnings():
        # That tracing is not the newest way, and that a check of the images' size becomes part of the graph.
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", torch.jit.TracerWarning)
        warnings.simplefilter("ignore", UserWarning)
        yield


@contextlib.contextmanager
def _without_output() -> Iterator[None]:
    """Drops what is written to standard output, by C++ too: a failing exporter dumps its whole graph there."""
    sys.stdout.flush()
    kept = os.dup(1)
    try:
        with open(os.devnull, "w", encoding="utf-8") as nowhere:
            os.dup2(nowhere.fileno(), 1)
            yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def _facts(extractor: FeatureExtractor, takes: str) -> dict[str, Any]:
    height, width = extractor.image_size
    return {
        "model_name": extractor.model.name,
        "height": height,
        "width": width,
        "feature_dim": extractor.model.feature_dim,
        "pixel_mean": extractor.pixel_mean,
        "pixel_std": extractor.pixel_std,
        "input": takes,
        "output": "features of unit length",
    }


def _describe(onnx: Any, model_bytes: bytes, extractor: FeatureExtractor, takes: str) -> bytes:
    model = onnx.load_from_string(model_bytes)
    _free_the_batch(onnx, model.graph)
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = extractor.model.feature_dim
    facts = _facts(extractor, takes)
    onnx.helper.set_model_props(model, {name: str(value) for name, value in facts.items()})
    onnx.checker.check_model(model)
    return model.SerializeToString()


def _free_the_batch(onnx: Any, graph: Any) -> None:
    """Makes reshapes to the traced batch size take any: ShuffleNets read it in a way that tracing misses."""
    shapes = {node.input[1] for node in graph.node if node.op_type == "Reshape"}
    constants = [tensor for tensor in graph.initializer if tensor.name in shapes]
    constants += [node.attribute[0].t for node in graph.node if node.op_type == "Constant" and node.output[0] in shapes]
    for constant in constants:
        shape = onnx.numpy_helper.to_array(constant).copy()
        if shape[0] == TRACED_BATCH_SIZE:
            shape[0] = 0  # ONNX's word for: as in the input
            constant.CopyFrom(onnx.numpy_helper.from_array(shape, constant.name))


def _largest_difference(
    run: Callable[[Tensor], Tensor],
    network: _PixelsToFeatures,
    extractor: FeatureExtractor,
    path: str | os.PathLike[str],
) -> float:
    """Compares with the model on noise, in batches of several sizes; both on the CPU, as a GPU rounds to TF32."""
    mean, std = extractor.pixel_mean, extractor.pixel_std
    embedder = Embedder(copy.deepcopy(extractor.model).cpu(), mean, std)
    generator = torch.Generator().manual_seed(0)
    differences = []
    for batch_size in CHECKED_BATCH_SIZES:
        pixels = torch.randint(0, 256, (batch_size, 3, *extractor.image_size), generator=generator, dtype=torch.uint8)
        with torch.no_grad():
            features = run(pixels if network.takes_pixels else normalize_images(pixels, mean, std))
        if not torch.allclose(features.norm(dim=1), torch.ones(batch_size), atol=1e-3):  # nor where they are no numbers
            raise InputError(
                f"{extractor.model.name} gives features that have no length 1 (zeros, infinity or NaN), so {path} is "
                "not written: give weights that were trained without diverging"
            )
        differences.append((features - embedder.embed(pixels)).abs().max())
    return float(torch.stack(differences).max())
