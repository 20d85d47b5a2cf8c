"""How good the identities are that a model gives to crops stripped of their labels, and what 50,000 images take.

Without --images: the demo's crops, their labels taken off (folders by camera, numbers for names), get identities from
the trained model and from the untrained start, at every eps of a range; the labels only judge. An outlier counts as an
identity of its own.

With --images N: seconds and memory to assign N images whose features are given, the size of the page, and the time
until it responds in Chromium: by the clock until the answer is on the screen, and of the page's own thread.

Examples:
    python benchmarks/identities.py --json identities.json
    python benchmarks/identities.py --images 50000 --dimensions 2048 --json page.json
"""

import argparse
import json
import os
import random
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from clustering import in_own_process, make_features
from peak_memory import PeakMemory
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
from sklearn.metrics.cluster import contingency_matrix, pair_confusion_matrix

from hhcl_torchreid import FeatureExtractor, PseudoLabeler
from hhcl_torchreid.clustering import dbscan, jaccard_graph
from hhcl_torchreid.data.folder import find_images
from hhcl_torchreid.data.tracks import Sighting
from hhcl_torchreid.errors import InputError
from hhcl_torchreid.identities import (
    ClustersAtEps,
    cluster_settings,
    clusters_by_eps,
    compare_with_centroids,
    crops_from_images,
    find_questions,
    recommend_eps,
    save_features,
    write_csv,
    write_page,
)
from hhcl_torchreid.labels import Images

DEMO = "data/synthetic_market/Market-1501-v15.09.15"
VALUES = [number / 100 for number in range(20, 80, 5)]
Record = dict[str, Any]


def strip_labels(folder: Path, crops: Path) -> list[int]:
    """Copies crops named as Market-1501's are to ``crops/CAMERA/NUMBER.jpg``; returns identities in the new order."""
    pattern = re.compile(r"(-?\d+)_c(\d+)")
    named = [(path, match) for path in find_images(folder) if (match := pattern.match(path.name))]
    labelled = [(path, int(match[1]), match[2]) for path, match in named if int(match[1]) > 0]
    if not labelled:
        raise InputError(f"no image in {folder} is named as Market-1501's are, 0001_c1s1_000151_01.jpg")
    random.Random(0).shuffle(labelled)
    identity_of = {}
    for number, (path, identity, camera) in enumerate(labelled):
        copy = crops / f"camera{camera}" / f"{number:05d}{path.suffix}"
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
        identity_of[copy] = identity
    return [identity_of[path] for path in sorted(identity_of)]


def agreement(truth: np.ndarray, labels: np.ndarray) -> Record:
    """Measures of labels (-1: outlier, an identity of its own) against the true identities."""
    singles = np.where(labels < 0, labels.max() + 1 + np.arange(len(labels)), labels)
    (_, joined_wrongly), (parted_wrongly, joined_rightly) = pair_confusion_matrix(truth, singles).tolist()
    counts = contingency_matrix(truth, labels)
    clustered = contingency_matrix(truth[labels >= 0], labels[labels >= 0]) if (labels >= 0).any() else np.zeros((1, 1))
    best_of_person = counts[:, 1:] if (labels < 0).any() else counts
    precision = joined_rightly / max(1, joined_rightly + joined_wrongly)
    recall = joined_rightly / max(1, joined_rightly + parted_wrongly)
    return {
        "ari": adjusted_rand_score(truth, singles),
        "nmi": normalized_mutual_info_score(truth, singles),
        "pairwise_precision": precision,
        "pairwise_recall": recall,
        "pairwise_f1": 2 * precision * recall / max(1e-12, precision + recall),
        # Of the images with an identity, those of the person who has most images in it.
        "purity": float(clustered.max(axis=0).sum() / max(1, clustered.sum())),
        # Of all images, those in the identity that holds most of their person.
        "completeness": float(best_of_person.max(axis=1, initial=0).sum() / len(truth)),
    }


def measure_quality(weights: str, crops: Path, truth: list[int], settings: Record) -> list[Record]:
    """A line for each eps: what was found, and how well it agrees with the truth."""
    features = crops_from_images(FeatureExtractor(model_path=weights, verbose=False), crops).features
    graph = jaccard_graph(features, settings["k1"], settings["k2"], max_distance=max(VALUES))
    return [
        {
            **line._asdict(),
            **agreement(np.array(truth), dbscan(graph, line.eps, settings["min_samples"]).cpu().numpy()),
        }
        for line in clusters_by_eps(features, VALUES, **settings)
    ]


def print_quality(model: str, lines: list[Record]) -> None:
    """The table of one model; ``*`` is the eps that tools/choose_eps.py proposes."""
    measures = list(lines[0])[list(lines[0]).index("ari") :]
    columns = ["eps", "identities", "outlier_share", "lead", *measures]
    fields = ClustersAtEps._fields
    proposed = recommend_eps([ClustersAtEps(**{name: line[name] for name in fields}) for line in lines])
    print(f"\n{model}\n" + " ".join(f"{column.replace('pairwise_', ''):>13}" for column in columns))
    for line in lines:
        cells = [f"{line[column]:>13.3f}" if column != "identities" else f"{line[column]:>13}" for column in columns]
        print(" ".join(cells) + (" *" if proposed and line["eps"] == proposed[0] else ""))


def compare_models(options: argparse.Namespace) -> Record:
    """Trained model and start on the same crops."""
    settings = cluster_settings(options.weights)  # as tools/assign_identities.py clusters with the trained model
    del settings["eps"]
    results: Record = {"crops": options.crops, **settings}
    with tempfile.TemporaryDirectory() as folder:
        truth = strip_labels(Path(options.crops), Path(folder))
        print(f"{len(truth)} crops of {len(set(truth))} people, labels taken off; {settings}")
        for name, weights in (("HHCL", options.weights), ("start", options.start)):
            results[name] = measure_quality(weights, Path(folder), truth, settings)
            print_quality(f"{name}: {weights}", results[name])
    return results


def assign_in_folder(folder: Path, options: argparse.Namespace) -> Record:
    """Seconds and memory of every step from features to page, in this process."""
    features_file, paths_file = folder / "given.npy", folder / "paths.json"
    paths = json.loads(paths_file.read_text())
    cameras = [path.split("/")[0] for path in paths]
    features = torch.from_numpy(np.load(features_file))
    labeler = PseudoLabeler(options.eps)
    labeler(features[:512])  # the first use of a library is not what is measured
    seconds: dict[str, float] = {}

    def timed(step: str, work: Callable[[], Any]) -> Any:
        started = time.perf_counter()
        result = work()
        seconds[step] = round(time.perf_counter() - started, 2)
        return result

    out = folder / "out"
    out.mkdir()
    memory = PeakMemory(features.device)
    labels = timed("cluster", lambda: labeler(features))
    clustering_bytes, memory = memory.bytes(), PeakMemory(features.device)
    found = timed("compare", lambda: compare_with_centroids(features, labels))
    timed("csv", lambda: write_csv(out / "identities.csv", paths, cameras, found))
    timed("npz", lambda: save_features(out / "features.npz", features, paths))
    seen = [Sighting(camera) for camera in cameras]
    images = Images.of_sightings(paths, [int(camera[-1]) for camera in cameras], [0] * len(paths), seen)
    questions = timed("questions", lambda: find_questions(features, found, images))
    settings = {"eps": options.eps}
    timed("page", lambda: write_page(out, folder / "crops", paths, seen, found, settings, questions=questions))
    return {
        "identities": found.num_identities,
        "outliers": found.num_outliers,
        "seconds": seconds,
        "cluster_megabytes_beyond_features": round(clustering_bytes / 2**20),
        "later_megabytes_beyond_that": round(memory.bytes() / 2**20),
    }


class Watch:
    """Milliseconds of what is done on a page, by the clock and of the page's own thread."""

    def __init__(self, page: Any) -> None:
        self.page, self.session = page, page.context.new_cdp_session(page)
        self.session.send("Performance.enable", {"timeDomain": "threadTicks"})
        self.milliseconds: dict[str, tuple[int, int]] = {}

    def __call__(self, step: str, act: Callable[[], Any]) -> None:
        """Does it, and waits for the frame that shows it."""
        started, worked = time.perf_counter(), self._worked()
        act()
        self.page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
        clock, work = time.perf_counter() - started, self._worked() - worked
        self.milliseconds[step] = round(1000 * clock), round(1000 * work)

    def _worked(self) -> float:
        metrics = self.session.send("Performance.getMetrics")["metrics"]
        return float(next(metric["value"] for metric in metrics if metric["name"] == "TaskDuration"))


def press(watch: Watch, where: str, card: str, keys: dict[str, str]) -> None:
    """Times answers by keys, each on the first card that takes it, and the undoing of each."""
    page = watch.page
    for key, answer in keys.items():
        if card:
            page.focus(f'{card}:not(.answered):has([data-key="{key}"]:enabled)')
        for pressed, step in ((key, answer), ("u", f"undo {answer}")):
            page.wait_for_timeout(200)
            watch(f"{where}: {step}", partial(page.keyboard.press, pressed))


def measure_answers(watch: Watch) -> None:
    """One answer of each kind, wherever it can be given."""
    page = watch.page
    answers = {"c": "confirm", "r": "runner-up", "a": "new", "x": "nobody"}
    page.keyboard.press("2")
    press(watch, "part", "#results .card:has(.part)", answers)
    press(watch, "outlier", "#results .card:has(.single)", {"r": "runner-up", "x": "nobody"})
    page.select_option("#sort", "runnerUp")
    press(watch, "image", "#results .card", answers)
    page.keyboard.press("4")
    press(watch, "merge", "#results .card", {"c": "one person", "a": "two people"})
    page.keyboard.press("1")
    page.focus("#results .card")
    watch("open the largest identity", lambda: page.keyboard.press("Enter"))
    for key, answer in answers.items():
        page.keyboard.press("ArrowRight")
        page.keyboard.press("t")
        press(watch, "in it", "", {key: answer})


def measure_page(out: Path, chromium: str) -> Record:
    """Bytes of the page, and milliseconds until it answers in headless Chromium."""
    from playwright.sync_api import sync_playwright

    files = [path for path in (out / "page").rglob("*") if path.is_file()]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium)
        page = browser.new_page(viewport={"width": 1400, "height": 900})
        watch = Watch(page)

        def open_page() -> None:
            page.goto((out / "index.html").as_uri(), wait_until="commit")
            page.wait_for_selector("html[data-ready]")

        watch("open until it responds", open_page)
        watch("next page", lambda: page.keyboard.press("n"))
        watch("sort by tightness", lambda: page.select_option("#sort", "loosest"))
        watch("hard cases", lambda: page.keyboard.press("2"))
        watch("search", lambda: page.fill("#query", "123"))
        watch("outliers", lambda: page.keyboard.press("3"))
        page.click("#reset")
        measure_answers(watch)
        heap = page.evaluate("performance.memory.usedJSHeapSize")
        browser.close()
    return {
        "page_megabytes": round(sum(path.stat().st_size for path in files) / 2**20, 1),
        "data_megabytes": round((out / "page" / "data.js").stat().st_size / 2**20, 1),
        "files": len(files),
        "milliseconds_clock_and_thread": watch.milliseconds,
        "browser_heap_megabytes": round(heap / 2**20),
    }


def measure_size(options: argparse.Namespace) -> Record:
    """``--images`` crops, the demo's over and over, with made-up features like those of a late epoch."""
    originals = find_images(options.crops)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = [f"camera{index % 6}/{index:06d}.jpg" for index in range(options.images)]
        for index, path in enumerate(paths):
            (folder / "crops" / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(originals[index % len(originals)], folder / "crops" / path)
        (folder / "paths.json").write_text(json.dumps(paths))
        np.save(folder / "given.npy", make_features(options.images, options.dimensions, "late", 0).numpy())
        result = {"images": options.images, "dimensions": options.dimensions, "cores": os.cpu_count()}
        result |= in_own_process(assign_in_folder, folder, options)
        result |= measure_page(folder / "out", options.chromium)
    print(json.dumps(result, indent=2))
    return result


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", default="log/demo/model/model-best.pth.tar", help="(default: %(default)s)")
    parser.add_argument("--start", default="weights/osnet_x0_25_rendered.pth", help="(default: %(default)s)")
    parser.add_argument("--crops", default=f"{DEMO}/bounding_box_train", help="(default: %(default)s)")
    parser.add_argument("--images", type=int, help="measure seconds, memory and the page with so many images")
    parser.add_argument("--dimensions", type=int, default=512)
    parser.add_argument("--eps", type=float, default=0.45)
    parser.add_argument("--chromium", default=shutil.which("chromium"), help="the browser (default: %(default)s)")
    parser.add_argument("--json", metavar="FILE", type=Path, help="also write the results there")
    options = parser.parse_args(arguments)
    if options.images and not options.chromium:
        parser.error("no Chromium here: install Debian's package chromium, or give --chromium")
    return options


def main(arguments: list[str] | None = None) -> int:
    """Measures, prints and saves; 2 after bad input."""
    options = parse_arguments(arguments)
    try:
        result = measure_size(options) if options.images else compare_models(options)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
