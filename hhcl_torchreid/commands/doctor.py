"""Says what is installed and found, what is wrong, and how to mend it."""

import argparse
import contextlib
import io
import logging
import os
import platform
import sys
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path

from .. import __version__
from ..log import add_verbosity, answer, shown
from ..options import Parser
from ..resources import resource_folder

logger = logging.getLogger(__name__)

NEEDED = {
    "numpy": "numpy",
    "scipy": "scipy",
    "PIL": "pillow",
    "joblib": "joblib",
    "sklearn": "scikit-learn",
    "tqdm": "tqdm",
    "psutil": "psutil",
    "filelock": "filelock",
    "yacs": "yacs",
    "cv2": "opencv-python-headless",
    "matplotlib": "matplotlib",
    "tensorboard": "tensorboard",
    "gdown": "gdown",
    "torch": "torch",
    "torchvision": "torchvision",
    "torchreid": "torchreid",
    "safetensors": "safetensors",
    "timm": "timm",
}
"""Module -> the package that has it, after those that it imports itself; FAISS is none that must be there."""

SMALL_MEMORY = 2e9  # bytes; the demo takes half of it
SMALL_DISK = 1e9  # bytes; the checkpoints of a ResNet-50 are half of it


def parse_arguments(arguments: Sequence[str] | None = None, prog: str | None = None) -> argparse.Namespace:
    """The command line."""
    epilog = "example: hhcl doctor --root DIR. The exit code is 1 where something is wrong."
    parser = Parser(prog, description=__doc__, epilog=epilog)
    parser.add_argument("--root", default="reid-data", help="folder of the data sets (default: %(default)s)")
    add_verbosity(parser)
    return parser.parse_args(arguments)


class Findings:
    """What was found, said line by line; what is wrong is the answer, the rest is for who wants to know.

    Attributes:
        num_wrong (int): how many lines say that something is wrong.
    """

    def __init__(self) -> None:
        self.num_wrong = 0

    def tell(self, name: str, found: str) -> None:
        """Says what is as it should be, or does no harm."""
        logger.info(f"{name:<16}{found}")

    def wrong(self, name: str, found: str, way_out: str) -> None:
        """Says what is wrong and how to mend it."""
        self.num_wrong += 1
        answer(f"{name:<16}WRONG: {found}\n{'':<16}to mend it: {way_out}")


def check_packages(findings: Findings) -> None:
    """Imports what this package needs."""
    for name, package in NEEDED.items():
        way_out = f"pip install {package}"
        try:
            # Imports may print, and warn of what is no concern of the user's.
            with contextlib.redirect_stdout(io.StringIO()):
                module = import_module(name)
        except Exception as error:  # a broken installation may raise anything
            is_missing = isinstance(error, ModuleNotFoundError) and error.name == name
            anew = f"what is wrong above first; else {way_out}, from the index that PyTorch is from"
            found = f"cannot be imported ({type(error).__name__}: {error})"
            findings.wrong(name, found, way_out if is_missing else anew)
        else:
            version = getattr(module, "__version__", "") or "installed"
            if name == "torchreid":
                version += ", from PyPI" if hasattr(module, "reid") else ", built from its source"
            findings.tell(name, str(version))


def check_faiss(findings: Findings) -> None:
    """FAISS is one of two ways to search neighbours: without it everything works."""
    try:
        faiss = import_module("faiss")
    except ImportError as error:
        findings.tell("faiss", f"cannot be imported ({error}): PyTorch searches in its place, more slowly on CPUs")
        return
    findings.tell("faiss", f"{faiss.__version__}, {faiss.get_num_gpus()} GPU(s)")


def check_devices(findings: Findings) -> None:
    """Names what the network can run on, its arithmetic there, and the memory that is free."""
    import torch

    from ..data.store import free_memory
    from ..features.precision import choose_precision

    devices = [torch.device("cuda", number) for number in range(torch.cuda.device_count())]
    for device in [*devices, torch.device("cpu")]:
        is_gpu = device.type == "cuda"
        name = torch.cuda.get_device_name(device) if is_gpu else f"{torch.get_num_threads()} threads"
        free = free_memory("gpu" if is_gpu else "ram", device)
        amp = str(choose_precision("auto", device)).removeprefix("torch.")
        found = f"{name}, {free / 1e9:.1f} GB free, computes in {amp} (train.amp auto)"
        if free < SMALL_MEMORY:
            findings.wrong(str(device), found, "free memory, or take fewer and smaller images (train.batch_size)")
        else:
            findings.tell(str(device), found)
    if not devices and torch.version.cuda is None:
        findings.tell("gpu", f"none: this PyTorch ({torch.__version__}) is built for CPUs")
    elif not devices:
        findings.tell("gpu", f"none that PyTorch, built for CUDA {torch.version.cuda}, can use (see nvidia-smi)")


def check_files(findings: Findings) -> None:
    """The package's own files, and room for a run in the folder where one would be."""
    import psutil

    for folder, pattern in (("configs", "*.yaml"), ("weights", "*.pth")):
        place = resource_folder(folder)
        number = len(list(place.glob(pattern)))
        if number:
            findings.tell(folder, f"{number} in {place}")
        else:
            findings.wrong(folder, f"none in {place}", "install hhcl-torchreid anew")
    here = Path.cwd()
    free = psutil.disk_usage(str(here)).free
    if not os.access(here, os.W_OK):
        findings.wrong("disk", f"{here} cannot be written", "go to another folder, or set data.save_dir elsewhere")
    elif free < SMALL_DISK:
        findings.wrong("disk", f"{free / 1e9:.1f} GB free in {here}", "free some, or set data.save_dir elsewhere")
    else:
        findings.tell("disk", f"{free / 1e9:.0f} GB free in {here}")


def data_sets_in(root: Path) -> Iterator[tuple[str, Path]]:
    """Gives name and folder of the data sets that have their folder below a root."""
    from .._torchreid import image_datasets
    from ..data.datasets import DATASETS

    for name, cls in sorted({**image_datasets(), **DATASETS}.items()):
        folder = getattr(cls, "dataset_dir", "") or ""
        if folder and (root / folder).is_dir():
            yield name, root / folder


def check_data(findings: Findings, root: Path) -> None:
    """Names the data sets below a root."""
    if not root.is_dir():
        findings.tell("data sets", f"no folder {root}: give --root; the demo renders its own")
        return
    found = list(data_sets_in(root))
    for name, folder in found:
        if any(folder.iterdir()):
            findings.tell("data set", f"{name} in {folder}")
        else:
            findings.wrong("data set", f"{name} in {folder}, which is empty", "put its images there (docs/datasets.md)")
    if not found:
        findings.tell("data sets", f"none of torchreid's in {root}; any folder of crops is one (hhcl_r50_folder.yaml)")


def check_machine(findings: Findings, root: Path) -> None:
    """Everything beside the packages, which it needs."""
    check_faiss(findings)
    check_devices(findings)
    check_files(findings)
    check_data(findings, root)
    answer("Nothing is wrong." if not findings.num_wrong else f"{findings.num_wrong} to mend.")


def main(arguments: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Runs the command; the exit code is 1 where something is wrong, else that of the other commands."""
    args = parse_arguments(arguments, prog)
    with shown(args.level):
        return examine(args)


def examine(args: argparse.Namespace) -> int:
    """Does the work; gives the exit code."""
    findings = Findings()
    findings.tell("hhcl-torchreid", __version__)
    findings.tell("python", f"{platform.python_version()} in {sys.prefix}, {platform.platform()}")
    check_packages(findings)
    if findings.num_wrong:
        answer(f"{findings.num_wrong} to mend; the other checks need these packages.")
        return 1
    from ..cli import run_tool  # which imports some of them

    root = Path(os.path.expanduser(args.root))
    return run_tool(lambda: check_machine(findings, root), level=args.level) or int(findings.num_wrong > 0)
