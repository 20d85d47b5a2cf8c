"""A trained model as a TorchScript file."""

import io
import json
import os

import torch

from ..errors import InputError
from ..features.extractor import FeatureExtractor
from .checking import largest_difference, write
from .network import ExportedNetwork, facts, quietly

__all__ = ["export_torchscript"]


def export_torchscript(extractor: FeatureExtractor, path: str | os.PathLike[str], kind: str = "uint8") -> float:
    """Writes the extractor's model as a TorchScript file for ``torch.jit.load``, once it gives the same features.

    It takes and gives what the file of :func:`~hhcl_torchreid.export.export_onnx` does, and has the same side file;
    what that has as metadata is the extra file ``facts.json`` in it.

    Args:
        extractor: the model and its image settings.
        path: the file to write; what stands there is replaced only by a file that has passed the check.
        kind: what the file takes, one of ``INPUTS``.

    Returns:
        The largest difference between a feature of the file and one of the model, at most ``TOLERANCE``.

    Raises:
        InputError: the backbone cannot be traced, the features differ or have no length, or the file cannot be written.
    """
    network = ExportedNetwork(extractor, kind).eval()
    file = io.BytesIO()
    try:
        with torch.no_grad(), quietly():
            traced = torch.jit.trace(network, network.example(extractor), check_trace=False)
            torch.jit.save(traced, file, _extra_files={"facts.json": json.dumps(facts(extractor, kind))})
            loaded = torch.jit.load(io.BytesIO(file.getvalue()))
            loaded(network.example(extractor)[:2])  # ShuffleNets keep the traced number of images
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(
            f"{extractor.model.name} cannot be written as TorchScript ({reason}): use another backbone"
        ) from error
    difference = largest_difference(loaded, extractor, kind, path)
    write(path, file.getvalue(), facts(extractor, kind))
    return difference
