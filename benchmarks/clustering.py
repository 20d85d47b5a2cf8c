"""Seconds and memory of pseudo labelling, beside the authors' code and scikit-learn's DBSCAN on the same features.

Features are made to look like those of an epoch: identities of 2 to 72 images (17 on average, as in Market-1501), six
cameras that shift them, and noise that training has not removed yet (early) or mostly has (late). Every measurement
runs in a process of its own, so that its peak memory is its own too.

Examples:
    python benchmarks/clustering.py
    python benchmarks/clustering.py --images 10000 100000 --dimensions 512 --json clustering.json
    python benchmarks/clustering.py --official path/to/HHCL-ReID
"""

import argparse
import importlib
import json
import multiprocessing
import platform
import resource
import sys
import tempfile
import time
import types
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hhcl_torchreid.pseudo_labels import PseudoLabeler

# Strength of camera shifts and of noise beside identities of strength one.
EPOCHS = {"early": (0.9, 1.4), "late": (0.25, 0.45)}
MIN_SAMPLES = 4
Record = dict[str, Any]


def make_features(num_images: int, dimensions: int, epoch: str, seed: int) -> Tensor:
    """Unit rows of an ``"early"`` or a ``"late"`` epoch, ``(num_images, dimensions)`` float32."""
    camera_strength, noise_strength = EPOCHS[epoch]
    generator = torch.Generator().manual_seed(seed)
    sizes = np.random.default_rng(seed).gamma(1.9, 9, num_images // 2 + 1).round().clip(2, 72).astype(np.int64)
    identities = torch.from_numpy(np.repeat(np.arange(len(sizes)), sizes)[:num_images])
    # What tells people apart, and cameras, has far fewer dimensions than the features.
    rank = min(64, dimensions)
    cameras = torch.randint(6, (num_images,), generator=generator)
    content = torch.randn(int(identities[-1]) + 1, rank, generator=generator)[identities]
    content += camera_strength * torch.randn(6, rank, generator=generator)[cameras]
    content += noise_strength * torch.randn(num_images, rank, generator=generator)
    features = content[torch.randperm(num_images, generator=generator)]
    features = features @ (torch.randn(rank, dimensions, generator=generator) / rank**0.5)
    features += 0.3 * torch.randn(num_images, dimensions, generator=generator)
    return features.div_(torch.linalg.vector_norm(features, dim=1, keepdim=True))


def measure_ours(path: Path, options: argparse.Namespace) -> tuple[Record, NDArray[np.int64]]:
    """Label the features in ``path``."""
    features = torch.from_numpy(np.load(path)).to(options.device)
    labeler = PseudoLabeler(options.eps, MIN_SAMPLES, options.k1, options.k2, options.knn)
    # The first use of a device, of a thread pool and of a library is not what is measured.
    PseudoLabeler(options.eps, MIN_SAMPLES, options.k1, options.k2, options.knn)(features[:512])
    before = memory_now(features)
    labels = labeler(features)
    statistics = labeler.statistics
    assert statistics is not None
    peak = statistics.peak_memory if features.is_cuda else peak_memory_of_process()
    record = {
        "code": "ours",
        **{stage: round(seconds, 4) for stage, seconds in statistics.seconds.items()},
        "total": round(statistics.total_seconds, 4),
        "megabytes": round((peak - before) / 2**20),
        "clusters": statistics.num_clusters,
        "outliers": statistics.num_outliers,
    }
    return record, labels.cpu().numpy()


def measure_official(path: Path, options: argparse.Namespace) -> tuple[Record, NDArray[np.int64]]:
    """The same work by the authors' code, from a checkout of theirs, on the CPU, and scikit-learn's DBSCAN."""
    from sklearn.cluster import DBSCAN

    # Their packages import everything when they are imported themselves; one file is wanted.
    for name, folder in (("hhcl", "hhcl"), ("hhcl.utils", "hhcl/utils")):
        package = types.ModuleType(name)
        package.__path__ = [str(Path(options.official) / folder)]
        sys.modules[name] = package
    theirs = importlib.import_module("hhcl.utils.faiss_rerank")

    features = torch.from_numpy(np.load(path))
    search_on_cpu = 3
    before = memory_now(features)
    start = time.perf_counter()
    distances = theirs.compute_jaccard_distance(
        features, k1=options.k1, k2=options.k2, print_flag=False, search_option=search_on_cpu
    )
    encoded = time.perf_counter()
    labels = DBSCAN(eps=options.eps, min_samples=MIN_SAMPLES, metric="precomputed", n_jobs=-1).fit_predict(distances)
    end = time.perf_counter()
    record = {
        "code": "official",
        "graph": round(encoded - start, 4),
        "dbscan": round(end - encoded, 4),
        "total": round(end - start, 4),
        "megabytes": round((peak_memory_of_process() - before) / 2**20),
        "clusters": int(labels.max()) + 1,
        "outliers": int((labels < 0).sum()),
    }
    return record, labels


def measure_sklearn(path: Path, options: argparse.Namespace) -> tuple[Record, NDArray[np.int64]]:
    """scikit-learn's DBSCAN on our sparse graph."""
    from scipy.sparse import csr_matrix
    from sklearn.cluster import DBSCAN

    from hhcl_torchreid.clustering import jaccard_graph

    features = torch.from_numpy(np.load(path)).to(options.device)
    graph = jaccard_graph(features, options.k1, options.k2, options.eps, options.knn).cpu()
    parts = (graph.values().numpy(), graph.col_indices().numpy(), graph.crow_indices().numpy())
    matrix = csr_matrix(parts, shape=tuple(graph.shape))
    start = time.perf_counter()
    labels = DBSCAN(eps=options.eps, min_samples=MIN_SAMPLES, metric="precomputed", n_jobs=-1).fit_predict(matrix)
    seconds = round(time.perf_counter() - start, 4)
    return {"code": "scikit-learn", "dbscan": seconds, "clusters": int(labels.max()) + 1}, labels


def measure_product(path: Path, options: argparse.Namespace) -> tuple[Record, None]:
    """The plain matrix product that comparing all pairs contains: the floor of an exact search without symmetry."""
    features = torch.from_numpy(np.load(path)).to(options.device)
    blocks = features.split(2048)
    buffer = blocks[0] @ features.T
    synchronize(features)
    start = time.perf_counter()
    for block in blocks:
        torch.mm(block, features.T, out=buffer[: len(block)])
    synchronize(features)
    return {"code": "product", "neighbors": round(time.perf_counter() - start, 4)}, None


def synchronize(features: Tensor) -> None:
    """Wait for the features' device."""
    if features.is_cuda:
        torch.cuda.synchronize(features.device)


def memory_now(features: Tensor) -> int:
    """Bytes that PyTorch holds on a GPU, or the process in main memory."""
    if features.is_cuda:
        return torch.cuda.memory_allocated(features.device)
    return _memory_of_process("VmRSS")


def peak_memory_of_process() -> int:
    """The most bytes that the process has held."""
    return _memory_of_process("VmHWM")


def _memory_of_process(field: str) -> int:
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    line = next(line for line in status.read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024


def in_own_process(measure: Any, *arguments: Any) -> Any:
    """Run a measurement in a fresh process."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(measure, *arguments).result()


def measure_all(path: Path, num_images: int, options: argparse.Namespace) -> list[Record]:
    """All measurements of one set of features; the fastest of each one's repetitions."""
    measures: list[Any] = [measure_ours]
    if not options.ours_only:
        measures += [measure_sklearn, measure_product]
    if options.official and num_images <= options.official_limit:
        measures.append(measure_official)
    records, our_labels = [], None
    for measure in measures:
        runs = [in_own_process(measure, path, options) for _ in range(options.repeat)]
        record, labels = min(runs, key=lambda run: run[0].get("total", 0))
        if our_labels is None:
            our_labels = labels
        elif labels is not None:
            record["same labels"] = bool(np.array_equal(labels, our_labels))
            record["labels that differ"] = int((labels != our_labels).sum())
        records.append(record)
    return records


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, nargs="+", default=[12936])
    parser.add_argument("--dimensions", type=int, default=2048)
    parser.add_argument("--epochs", nargs="+", choices=list(EPOCHS), default=list(EPOCHS))
    parser.add_argument("--eps", type=float, default=0.6)
    parser.add_argument("--k1", type=int, default=30)
    parser.add_argument("--k2", type=int, default=6)
    parser.add_argument("--knn", default="auto", help="back end of the neighbour search: auto, faiss or torch")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--official", metavar="DIR", help="checkout of the authors' repository, to run beside ours")
    parser.add_argument(
        "--official-limit", type=int, default=20000, help="most images to run the authors' N x N matrices with"
    )
    parser.add_argument("--ours-only", action="store_true", help="leave out scikit-learn and the plain product")
    parser.add_argument("--repeat", type=int, default=1, help="runs of each measurement; the fastest counts")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", metavar="FILE", type=Path, help="also write the results there")
    return parser.parse_args()


def print_record(record: Record) -> None:
    """One line of the table."""
    columns = ["images", "epoch", "code", "neighbors", "graph", "dbscan", "total", "megabytes", "clusters", "outliers"]
    line = "".join(f"{record.get(column, ''):>13}" for column in columns)
    print(line + f"{record.get('same labels', '')!s:>13}", flush=True)


def main() -> None:
    """Measure, print and save."""
    options = parse_arguments()
    print(f"{options.dimensions} dimensions, eps {options.eps}, {options.device}, {torch.get_num_threads()} threads")
    print_record(
        {name: name for name in ["images", "epoch", "code", "neighbors", "graph", "dbscan", "total"]}
        | {name: name for name in ["megabytes", "clusters", "outliers", "same labels"]}
    )
    records = []
    with tempfile.TemporaryDirectory() as folder:
        for num_images in options.images:
            for epoch in options.epochs:
                path = Path(folder) / "features.npy"
                np.save(path, make_features(num_images, options.dimensions, epoch, options.seed).numpy())
                for record in measure_all(path, num_images, options):
                    records.append({"images": num_images, "epoch": epoch, **record})
                    print_record(records[-1])
    if options.json:
        settings = {name: str(value) for name, value in vars(options).items() if name not in ("json", "official")}
        machine = {"torch": torch.__version__, "python": platform.python_version(), "threads": torch.get_num_threads()}
        options.json.write_text(json.dumps({"settings": settings, "machine": machine, "results": records}, indent=2))


if __name__ == "__main__":
    main()
