"""A trained model as files for other programs: images in, unit feature vectors out."""

from .checking import TOLERANCE
from .network import INPUTS
from .to_onnx import export_onnx
from .to_openvino import export_openvino
from .to_torchscript import export_torchscript

__all__ = ["INPUTS", "TOLERANCE", "export_onnx", "export_openvino", "export_torchscript"]
