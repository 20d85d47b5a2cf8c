"""A trained model as an ONNX file."""

import contextlib
import importlib.util
import io
import os
import sys
import textwrap
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError
from ..features.extractor import FeatureExtractor
from .checking import largest_difference, write
from .network import INPUTS, TRACED_BATCH_SIZE, ExportedNetwork, facts, import_package, quietly

__all__ = ["export_onnx", "onnx_bytes"]

OPSET = 17
OPSET_CAPTURED = 18  # the lowest of the newer exporter
FAILURES = (RuntimeError, ValueError)  # of which PyTorch's own exporter errors are kinds


def export_onnx(extractor: FeatureExtractor, path: str | os.PathLike[str], kind: str = "uint8") -> float:
    """Writes the extractor's model as an ONNX file, once ONNX Runtime has given the same features as PyTorch.

    The file has one input, (batch, 3, height, width), of images resized (bicubic) to the size that the model was
    trained with, any number at once: ``pixels``, **uint8, RGB, 0 to 255**, or ``images``, **float32, RGB**, normalised
    with ImageNet's mean and deviation, which is what trackers give, whatever the model was trained with. It has one
    output, ``features``: (batch, D) float32 rows of unit length. BNNeck and L2 normalisation are inside, and so is the
    normalisation of pixels. Its metadata names ``model_name``, ``height``, ``width``, ``feature_dim``, ``pixel_mean``
    and ``pixel_std``; so does ``FILE.metadata.json``, which BoxMOT reads.

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
    onnxruntime = import_package("onnxruntime")
    model_bytes = onnx_bytes(extractor, kind)
    session = onnxruntime.InferenceSession(model_bytes, providers=["CPUExecutionProvider"])

    def run(images: Tensor) -> Tensor:
        return torch.from_numpy(session.run(["features"], {INPUTS[kind][0]: images.numpy()})[0])

    difference = largest_difference(run, extractor, kind, path)
    write(path, model_bytes, facts(extractor, kind))
    return difference


def onnx_bytes(extractor: FeatureExtractor, kind: str) -> bytes:
    """Gives the file of :func:`export_onnx` before it is checked.

    PyTorch's older exporter is asked first: the newer one takes ten times as long for the same network. It is asked
    where the older one fails, as for kernels that are as large as their input (ShuffleNet, HACNN).

    Raises:
        InputError: onnx is not installed, or the backbone has a layer that ONNX lacks.
    """
    onnx = import_package("onnx")
    with torch.no_grad(), quietly(), _without_output():
        model = _graph(onnx, extractor, kind)
    _free_the_batch(onnx, model.graph)
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = extractor.model.feature_dim
    onnx.helper.set_model_props(model, {name: str(value) for name, value in facts(extractor, kind).items()})
    onnx.checker.check_model(model)
    return model.SerializeToString()


def _graph(onnx: Any, extractor: FeatureExtractor, kind: str) -> Any:
    network = ExportedNetwork(extractor, kind).eval()
    arguments = network, network.example(extractor), INPUTS[kind][0]
    way_out = "use another backbone"
    try:
        return onnx.load_from_string(_traced(*arguments))
    except FAILURES as error:
        if importlib.util.find_spec("onnxscript") is None:
            way_out = f"pip install onnxscript, with which PyTorch's newer exporter is tried, or {way_out}"
        else:
            with contextlib.suppress(*FAILURES):
                return _captured(*arguments)
        reason = textwrap.shorten(str(error).strip().splitlines()[0], width=120, placeholder=" ...")
        raise InputError(f"{extractor.model.name} cannot be written as ONNX ({reason}): {way_out}") from error


def _traced(network: ExportedNetwork, example: Tensor, input_name: str) -> bytes:
    file: Any = io.BytesIO()  # PyTorch's annotations have forgotten it
    torch.onnx.export(
        network,
        (example,),
        file,
        dynamo=False,
        opset_version=OPSET,
        input_names=[input_name],
        output_names=["features"],
        dynamic_axes={input_name: {0: "batch"}, "features": {0: "batch"}},
    )
    return file.getvalue()


def _captured(network: ExportedNetwork, example: Tensor, input_name: str) -> Any:
    program = torch.onnx.export(
        network,
        (example,),
        dynamo=True,
        opset_version=OPSET_CAPTURED,
        input_names=[input_name],
        output_names=["features"],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        verbose=False,
    )
    assert program is not None  # as without dynamo
    model = program.model_proto
    for node in model.graph.node:
        del node.metadata_props[:]  # where each came from, with paths of this machine
    return model


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
