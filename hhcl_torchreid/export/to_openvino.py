"""A trained model as OpenVINO's two files, in a folder."""

import os
from pathlib import Path

import torch
from torch import Tensor

from ..errors import InputError
from ..features.extractor import FeatureExtractor
from ..files import replacing_folder
from .checking import SIDE_FILE_ENDING, largest_difference, side_file
from .network import facts, import_package
from .to_onnx import onnx_bytes

__all__ = ["FOLDER_ENDING", "export_openvino"]

FOLDER_ENDING = "_openvino_model"
OF_FOLDER = "manifest.json"


def export_openvino(extractor: FeatureExtractor, path: str | os.PathLike[str], kind: str = "uint8") -> float:
    """Writes the extractor's model as an OpenVINO network, once OpenVINO has given the same features as PyTorch.

    It takes and gives what the file of :func:`~hhcl_torchreid.export.export_onnx` does, in float32: its metadata is
    the network's ``model_info``. OpenVINO itself computes in bfloat16 on processors that can, unless it is told
    ``INFERENCE_PRECISION_HINT`` ``f32``, as for the check.

    Args:
        extractor: the model and its image settings.
        path: the folder to write, of the name's .xml, .bin and the side files that BoxMOT reads; BoxMOT asks for a name
            that ends in ``_openvino_model``. What stands there is replaced only by a network that has passed the check.
        kind: what the network takes, one of ``INPUTS``.

    Returns:
        The largest difference between a feature of OpenVINO and one of PyTorch, at most ``TOLERANCE``.

    Raises:
        InputError: onnx or openvino is not installed, the backbone has a layer that ONNX or OpenVINO lacks, the
            features differ or have no length, or the folder cannot be written or holds something else.
    """
    openvino = import_package("openvino")
    path = Path(path)
    stem = path.name.removesuffix(FOLDER_ENDING)
    ours = {f"{stem}.xml", f"{stem}.bin", f"{stem}.xml{SIDE_FILE_ENDING}", OF_FOLDER}
    _refuse_other_things(path, ours)
    content = onnx_bytes(extractor, kind)
    try:
        network = openvino.Core().read_model(content)
        compiled = openvino.compile_model(network, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise InputError(
            f"{extractor.model.name} cannot be written for OpenVINO ({reason}): use another backbone"
        ) from error

    def run(images: Tensor) -> Tensor:
        return torch.from_numpy(compiled(images.numpy())[0])

    difference = largest_difference(run, extractor, kind, path)
    of_network = facts(extractor, kind)
    for name, value in of_network.items():
        network.set_rt_info(str(value), ["model_info", name])
    with replacing_folder(path, option="--out") as folder:
        openvino.save_model(network, folder / f"{stem}.xml", compress_to_fp16=False)
        for name in (f"{stem}.xml{SIDE_FILE_ENDING}", OF_FOLDER):
            (folder / name).write_text(side_file(of_network), encoding="utf-8")
    return difference


def _refuse_other_things(path: Path, ours: set[str]) -> None:
    if path.suffix in (".xml", ".bin"):
        raise InputError(f"{path} is one of OpenVINO's two files: set --out to a folder for both")
    others = sorted(child.name for child in path.iterdir() if child.name not in ours) if path.is_dir() else []
    if others:
        raise InputError(
            f"{path} holds other files than an OpenVINO network's ({others[0]}): set --out to a new folder"
        )
