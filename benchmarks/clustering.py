"""Seconds and memory of pseudo labelling and re-ranking, beside other people's code on the same features.

Features are made to look like those of an epoch: identities of 2 to 72 images (17 on average, as in Market-1501), six
cameras that shift them, and noise that training has not removed yet (early) or mostly has (late). Every measurement
runs in a process of its own, which makes the features anew from the same seed, so that its peak memory is its own too.

The lines of the table, by the code that they measure:
    ours            pseudo labels by this package
    search torch    the neighbour search alone, with either back end
    search faiss
    product         the plain matrix product of the same blocks: the floor of a search that compares all pairs
    scikit-learn    its DBSCAN on our graph
    official        the authors' code and scikit-learn's DBSCAN, on the CPU
    re-ranking      ours, of queries against a gallery
    torchreid       torchreid's re-ranking of the same

With --tracks it is the labels of tracks that are measured, 20 frames nearly alike each: people pass six cameras several
times, four are seen at once on average, and every twentieth track shows another person from its middle on.

Examples:
    python benchmarks/clustering.py
    python benchmarks/clustering.py --images 10000 100000 --dimensions 512 --json clustering.json
    python benchmarks/clustering.py --official path/to/HHCL-ReID
    python benchmarks/clustering.py --device cuda --images 12936 100000 1000000 --official path/to/HHCL-ReID
    python benchmarks/clustering.py --rerank 11659 82161 --epochs late
    python benchmarks/clustering.py --tracks 10000 30000 100000 --dimensions 128
"""

import argparse
import importlib
import json
import multiprocessing
import platform
import sys
import types
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchreid
from numpy.typing import NDArray
from peak_memory import PeakMemory
from torch import Tensor

from hhcl_torchreid.clustering import jaccard_graph, k_nearest_neighbors, re_ranking
from hhcl_torchreid.clustering.neighbors import rows_at_once
from hhcl_torchreid.errors import InputError
from hhcl_torchreid.labels import Images
from hhcl_torchreid.labels.clusters import PseudoLabeler
from hhcl_torchreid.stopwatch import Stopwatch

# Strength of camera shifts and of noise beside identities of strength one.
EPOCHS = {"early": (0.9, 1.4), "late": (0.25, 0.45)}
MIN_SAMPLES = 4
CAMERAS = 6
FRAMES, AT_ONCE, SWITCHED = 20, 4, 20
"""Frames of a track, tracks that a camera sees at once on average, and one track in so many that holds two people."""
COLUMNS = ["images", "epoch", "code", "neighbors", "graph", "dbscan", "total", "megabytes", "clusters", "outliers"]
COLUMNS += ["same labels"]
COLUMNS_OF_TRACKS = ["tracks", "epoch", "find", "neighbors", "graph", "dbscan", "parts", "total", "megabytes"]
COLUMNS_OF_TRACKS += ["clusters", "outliers", "eps"]
AUTHORS_FILE = "hhcl/utils/faiss_rerank.py"
Record = dict[str, Any]
Labels = NDArray[np.int64]
Measure = Callable[..., tuple[Record, Labels | None]]


def make_features(num_images: int, dimensions: int, epoch: str, seed: int, device: str = "cpu") -> Tensor:
    """Unit rows of an ``"early"`` or a ``"late"`` epoch, ``(num_images, dimensions)`` float32, one set per seed."""
    camera_strength, noise_strength = EPOCHS[epoch]
    generator = torch.Generator(device).manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, device=device)

    sizes = np.random.default_rng(seed).gamma(1.9, 9, num_images // 2 + 1).round().clip(2, 72).astype(np.int64)
    identities = torch.from_numpy(np.repeat(np.arange(len(sizes)), sizes)[:num_images]).to(device)
    # What tells people apart, and cameras, has far fewer dimensions than the features.
    rank = min(64, dimensions)
    cameras = torch.randint(CAMERAS, (num_images,), generator=generator, device=device)
    content = normal(int(identities[-1]) + 1, rank)[identities]
    content += camera_strength * normal(CAMERAS, rank)[cameras]
    content += noise_strength * normal(num_images, rank)
    features = content[torch.randperm(num_images, generator=generator, device=device)]
    features = features @ (normal(rank, dimensions) / rank**0.5)
    features += normal(num_images, dimensions).mul_(0.3)
    return features.div_(torch.linalg.vector_norm(features, dim=1, keepdim=True))


def make_tracks(num_tracks: int, dimensions: int, epoch: str, seed: int) -> tuple[Tensor, Images]:
    """Unit rows of the frames of tracks, ``(FRAMES * num_tracks, dimensions)``, and what is known of them."""
    camera_strength, noise_strength = EPOCHS[epoch]
    generator, rng = torch.Generator().manual_seed(seed), np.random.default_rng(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    passes = rng.gamma(1.9, 4, num_tracks).round().clip(1, 40).astype(np.int64)
    people = torch.from_numpy(rng.permutation(np.repeat(np.arange(num_tracks), passes)[:num_tracks]))
    cameras = torch.randint(CAMERAS, (num_tracks,), generator=generator)
    begins = torch.randint(max(1, FRAMES * num_tracks // (CAMERAS * AT_ONCE)), (num_tracks,), generator=generator)
    # Each frame is of the person of its track; the later ones of some, of the next track's.
    of_frames = people.repeat_interleave(FRAMES).reshape(num_tracks, FRAMES)
    of_frames[::SWITCHED, FRAMES // 2 :] = people.roll(1)[::SWITCHED, None]
    tracks = torch.arange(num_tracks).repeat_interleave(FRAMES)
    rank = min(64, dimensions)
    into, persons = normal(rank, dimensions) / rank**0.5, normal(int(people.max()) + 1, rank)
    around = camera_strength * normal(CAMERAS, rank)[cameras] + noise_strength * normal(num_tracks, rank)
    features = normal(len(tracks), dimensions).mul_(0.3)
    for some in torch.arange(len(tracks)).split(100_000):
        features[some] += (persons[of_frames.flatten()[some]] + around[tracks[some]]) @ into
    features.div_(torch.linalg.vector_norm(features, dim=1, keepdim=True))
    frames = (begins[:, None] + torch.arange(FRAMES)).flatten()
    images = Images(("",) * len(tracks), cameras[tracks], torch.zeros_like(tracks), tracks, frames)
    return features, images


def features_of(task: Record, options: argparse.Namespace) -> Tensor:
    """The features of a task, on the device that is asked for."""
    features = make_features(task["images"], options.dimensions, task["epoch"], options.seed, options.device)
    if features.is_cuda:
        torch.cuda.empty_cache()
    return features


def measure_ours(task: Record, options: argparse.Namespace) -> tuple[Record, Labels]:
    """Labels the features."""
    features = features_of(task, options)
    labeler = PseudoLabeler(options.eps, MIN_SAMPLES, options.k1, options.k2, options.knn)
    # The first use of a device, of a thread pool and of a library is not what is measured.
    labeler(features[:512])
    memory = PeakMemory(features.device)
    labels = labeler(features)
    statistics = labeler.statistics
    assert statistics is not None
    record = {
        **{stage: round(seconds, 4) for stage, seconds in statistics.seconds.items()},
        "total": round(statistics.total_seconds, 4),
        "megabytes": round(memory.bytes() / 2**20),
        "clusters": statistics.num_clusters,
        "outliers": statistics.num_outliers,
    }
    return record, labels.cpu().numpy()


def measure_tracks(task: Record, options: argparse.Namespace) -> tuple[Record, Labels]:
    """Labels the features of tracks."""
    features, images = make_tracks(task["tracks"], options.dimensions, task["epoch"], options.seed)
    features = features.to(options.device)
    labeler = PseudoLabeler(options.eps, MIN_SAMPLES, options.k1, options.k2, options.knn)
    labeler(features[:512])
    memory = PeakMemory(features.device)
    labels = labeler(features, images).cpu().numpy()
    statistics = labeler.statistics
    assert statistics is not None
    seconds = {"find": statistics.seconds["tracks"], **statistics.seconds, "total": statistics.total_seconds}
    record = {
        **{stage: round(taken, 4) for stage, taken in seconds.items() if stage != "tracks"},
        "megabytes": round(memory.bytes() / 2**20),
        "clusters": statistics.num_clusters,
        "outliers": statistics.num_outliers,
        "eps": round(statistics.eps, 2),
    }
    return record, labels


def measure_search(task: Record, options: argparse.Namespace, backend: str) -> tuple[Record, None]:
    """Searches for the neighbours alone."""
    features = features_of(task, options)
    if backend == "faiss" and features.is_cuda:
        import faiss

        if faiss.get_num_gpus() == 0:
            return {"skipped": "this FAISS sees no GPU"}, None
    k_nearest_neighbors(features[:512], options.k1, backend)
    memory, watch = PeakMemory(features.device), Stopwatch(features.device)
    k_nearest_neighbors(features, options.k1, backend)
    watch.lap("neighbors")
    return {"neighbors": round(watch.seconds["neighbors"], 4), "megabytes": round(memory.bytes() / 2**20)}, None


def measure_product(task: Record, options: argparse.Namespace) -> tuple[Record, None]:
    """Multiplies the blocks of the neighbour search, and nothing more."""
    features = features_of(task, options)
    blocks = features.split(rows_at_once(features, options.k1))
    buffer = blocks[0] @ features.T
    watch = Stopwatch(features.device)
    for block in blocks:
        torch.mm(block, features.T, out=buffer[: len(block)])
    watch.lap("neighbors")
    return {"neighbors": round(watch.seconds["neighbors"], 4)}, None


def measure_sklearn(task: Record, options: argparse.Namespace) -> tuple[Record, Labels]:
    """Clusters our graph with scikit-learn."""
    from scipy.sparse import csr_matrix
    from sklearn.cluster import DBSCAN

    graph = jaccard_graph(features_of(task, options), options.k1, options.k2, options.eps, options.knn).cpu()
    parts = (graph.values().numpy(), graph.col_indices().numpy(), graph.crow_indices().numpy())
    matrix = csr_matrix(parts, shape=tuple(graph.shape))
    watch = Stopwatch(torch.device("cpu"))
    labels = DBSCAN(eps=options.eps, min_samples=MIN_SAMPLES, metric="precomputed", n_jobs=-1).fit_predict(matrix)
    watch.lap("dbscan")
    return {"dbscan": round(watch.seconds["dbscan"], 4), "clusters": int(labels.max()) + 1}, labels


def measure_official(task: Record, options: argparse.Namespace) -> tuple[Record, Labels | None]:
    """The same work by the authors' code, from a checkout of theirs, and scikit-learn's DBSCAN."""
    from sklearn.cluster import DBSCAN

    if task["images"] > options.official_limit:
        return {"skipped": f"N x N matrices, above --official-limit {options.official_limit}"}, None
    # Their packages import everything when they are imported themselves; one file is wanted.
    for name, folder in (("hhcl", "hhcl"), ("hhcl.utils", "hhcl/utils")):
        package = types.ModuleType(name)
        package.__path__ = [str(Path(options.official) / folder)]
        sys.modules[name] = package
    theirs = importlib.import_module("hhcl.utils.faiss_rerank")

    features = features_of(task, options).cpu()
    memory, watch = PeakMemory(features.device), Stopwatch(features.device)
    distances = theirs.compute_jaccard_distance(
        features, k1=options.k1, k2=options.k2, print_flag=False, search_option=search_of_authors(options.device)
    )
    watch.lap("graph")
    labels = DBSCAN(eps=options.eps, min_samples=MIN_SAMPLES, metric="precomputed", n_jobs=-1).fit_predict(distances)
    watch.lap("dbscan")
    record = {
        **{stage: round(seconds, 4) for stage, seconds in watch.seconds.items()},
        "total": round(sum(watch.seconds.values()), 4),
        "megabytes": round(memory.bytes() / 2**20),
        "clusters": int(labels.max()) + 1,
        "outliers": int((labels < 0).sum()),
    }
    return record, labels


def search_of_authors(device: str) -> int:
    """Which of their ways to search for neighbours the authors' code takes: its first, on a GPU, or else its fourth."""
    import faiss

    if not device.startswith("cuda") or faiss.get_num_gpus() == 0:
        return 3
    # FAISS has renamed it since theirs was written.
    faiss.cast_integer_to_long_ptr = faiss.cast_integer_to_idx_t_ptr  # type: ignore[attr-defined]
    return 0


def measure_re_ranking(task: Record, options: argparse.Namespace) -> tuple[Record, None]:
    """Re-rank the first of the features as queries against the others as gallery."""
    features = features_of(task, options)
    queries, gallery = features[: task["queries"]], features[task["queries"] :]
    memory, watch = PeakMemory(features.device), Stopwatch(features.device)
    re_ranking(queries, gallery)
    watch.lap("total")
    return {"total": round(watch.seconds["total"], 4), "megabytes": round(memory.bytes() / 2**20)}, None


def measure_torchreid(task: Record, options: argparse.Namespace) -> tuple[Record, None]:
    """The same by torchreid, on the CPU, from features to distances."""
    if task["images"] > options.official_limit:
        return {"skipped": f"N x N matrices, above --official-limit {options.official_limit}"}, None
    features = features_of(task, options).cpu()
    queries, gallery = features[: task["queries"]], features[task["queries"] :]
    memory, watch = PeakMemory(features.device), Stopwatch(features.device)
    between = torchreid.metrics.compute_distance_matrix
    pairs = ((queries, gallery), (queries, queries), (gallery, gallery))
    distances = torchreid.utils.re_ranking(*(between(one, other).numpy() for one, other in pairs))
    watch.lap("total")
    record = {"total": round(watch.seconds["total"], 4), "megabytes": round(memory.bytes() / 2**20)}
    ours = re_ranking(queries, gallery).numpy()
    return {**record, "largest difference": float(np.abs(distances - ours).max())}, None


def in_own_process(measure: Any, *arguments: Any) -> Any:
    """Runs a measurement in a fresh process, which starts processes of its own as this one does.

    Left to itself a spawned process spawns too, and every worker that loads images imports everything anew.
    """
    of_this_one = (multiprocessing.get_start_method(),)
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), _start_processes_by, of_this_one) as pool:
        return pool.submit(measure, *arguments).result()


def _start_processes_by(method: str) -> None:
    multiprocessing.set_start_method(method, force=True)


def measures_of(options: argparse.Namespace) -> dict[str, Measure]:
    """What to measure, by the name of the code."""
    if options.tracks:
        return {"ours": measure_tracks}
    if options.rerank:
        ours: dict[str, Measure] = {"re-ranking": measure_re_ranking}
        others: dict[str, Measure] = {"torchreid": measure_torchreid}
    else:
        ours = {"ours": measure_ours}
        others = {f"search {backend}": partial(measure_search, backend=backend) for backend in ("torch", "faiss")}
        others |= {"product": measure_product, "scikit-learn": measure_sklearn}
    measures = ours if options.ours_only else ours | others
    return measures | {"official": measure_official} if options.official and not options.rerank else measures


def measure_all(task: Record, options: argparse.Namespace) -> Iterator[Record]:
    """All measurements of one set of features; the fastest of each one's repetitions."""
    our_labels = None
    for code, measure in measures_of(options).items():
        runs = [in_own_process(measure, task, options) for _ in range(options.repeat)]
        record, labels = min(runs, key=lambda run: run[0].get("total", run[0].get("neighbors", 0)))
        if our_labels is None:
            our_labels = labels
        elif labels is not None:
            record["same labels"] = bool(np.array_equal(labels, our_labels))
            record["labels that differ"] = int((labels != our_labels).sum())
        yield {**task, "code": code, **record}


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line, or ``arguments`` in its place."""
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
        "--official-limit", type=int, default=20000, help="most images to run other people's N x N matrices with"
    )
    parser.add_argument("--ours-only", action="store_true", help="leave out all other lines but --official")
    parser.add_argument(
        "--rerank",
        type=int,
        nargs=2,
        metavar=("QUERIES", "GALLERY"),
        help="measure test-time re-ranking of so many images in place of pseudo labels",
    )
    parser.add_argument(
        "--tracks", type=int, nargs="+", default=[], help="measure the labels of so many tracks instead"
    )
    parser.add_argument("--repeat", type=int, default=1, help="runs of each measurement; the fastest counts")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", metavar="FILE", type=Path, help="also write the results there")
    options = parser.parse_args(arguments)
    if options.official and not Path(options.official, AUTHORS_FILE).exists():
        parser.error(
            f"--official {options.official} holds no {AUTHORS_FILE}: give a checkout of the authors' repository"
        )
    if min(*options.images, *options.tracks, options.dimensions, options.repeat) < 1:
        parser.error("--images, --tracks, --dimensions and --repeat must be at least 1")
    if options.json and not options.json.parent.is_dir():
        parser.error(f"--json {options.json} lies in a folder that does not exist: make it first")
    try:
        torch.empty(0, device=options.device)
    except (RuntimeError, AssertionError) as error:
        parser.error(f"--device {options.device} cannot be used here ({str(error).splitlines()[0]}): try cpu")
    return options


def print_record(record: Record, columns: list[str]) -> None:
    """One line of the table."""
    line = "".join(f"{record.get(column, '')!s:>13}" for column in columns)
    print(line + ("  skipped: " + record["skipped"] if "skipped" in record else ""), flush=True)


def main(arguments: list[str] | None = None) -> int:
    """Measure, print and save; 2 after bad input."""
    options = parse_arguments(arguments)
    try:
        measure_tasks(options)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def measure_tasks(options: argparse.Namespace) -> None:
    """Measures all that is asked for, and prints and saves each result when it is there."""
    print(f"{options.dimensions} dimensions, eps {options.eps}, {options.device}, {torch.get_num_threads()} threads")
    columns = COLUMNS_OF_TRACKS if options.tracks else COLUMNS
    print_record({column: column for column in columns}, columns)
    kind, sizes = ("tracks", options.tracks) if options.tracks else ("images", options.images)
    tasks: list[Record] = [{kind: size, "epoch": epoch} for size in sizes for epoch in options.epochs]
    if options.rerank:
        tasks = [
            {"images": sum(options.rerank), "epoch": epoch, "queries": options.rerank[0]} for epoch in options.epochs
        ]
    records = []
    for task in tasks:
        for record in measure_all(task, options):
            records.append(record)
            print_record(record, columns)
            if options.json:
                save(records, options)


def save(records: list[Record], options: argparse.Namespace) -> None:
    """Writes the records so far, and what they were measured with."""
    settings = {name: str(value) for name, value in vars(options).items() if name not in ("json", "official")}
    machine = {"torch": torch.__version__, "python": platform.python_version(), "threads": torch.get_num_threads()}
    if options.device.startswith("cuda"):
        machine["gpu"] = torch.cuda.get_device_name(options.device)
    options.json.write_text(json.dumps({"settings": settings, "machine": machine, "results": records}, indent=2))


if __name__ == "__main__":
    sys.exit(main())
