"""What corrections are worth, and what new images cost: a folder of crops in two parts, and answers from the truth.

The crops' labels (Market-1501's names) only judge and answer. First, 70% of the images of most people are assigned,
then the rest of theirs, and all of some strangers, come ``--into`` that result. Second, simulated answers are given,
with the rows that the page would write: to its questions in their order and in any order, and to questions about one
image each, the closest decisions first and in any order. An outlier counts as an identity of its own. With
``--images N``: seconds until a thousand new images have joined N old ones.

Examples:
    python benchmarks/corrections.py --json corrections.json
    python benchmarks/corrections.py --crops CROPS --weights MODEL --eps 0.5
    python benchmarks/corrections.py --images 100000
"""

import argparse
import json
import random
import re
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from identities import DEMO, agreement

from hhcl_torchreid import FeatureExtractor, PseudoLabeler
from hhcl_torchreid.data.corrections import Correction
from hhcl_torchreid.errors import InputError
from hhcl_torchreid.identities import (
    Crops,
    Identities,
    Question,
    cluster_settings,
    compare_with_centroids,
    crops_from_images,
    find_questions,
)
from hhcl_torchreid.identities.joining import JoinedTo, JoiningLabeler, Known
from hhcl_torchreid.identities.numbers import UNKNOWN, Earlier, keep_numbers
from hhcl_torchreid.labels import combine_answers, correct_labels
from hhcl_torchreid.labels.tracks import whole_tracks

FIRST = 0.7
STRANGERS = 0.2
ANSWERS = (0, 50, 100, 200)
SEEDS = range(5)
Record = dict[str, Any]


def true_people(paths: Sequence[str]) -> np.ndarray:
    """(N,) int64, the person that each name begins with."""
    found = [re.match(r"(\d+)_c\d+", Path(path).name) for path in paths]
    if not all(found):
        raise InputError("an image is not named as Market-1501's are, 0001_c1s1_000151_01.jpg: give such a folder")
    return np.array([int(match[1]) for match in found if match])


def measure_joining(crops: Crops, truth: np.ndarray, labeler: PseudoLabeler, seed: int) -> Record:
    """The first part is clustered, the second joins; judged against clustering all afresh."""
    rng = np.random.default_rng(seed)
    people = np.unique(truth)
    is_stranger = np.isin(truth, rng.choice(people, round(STRANGERS * len(people)), replace=False))
    units = whole_tracks(crops.images).of_images if crops.images.have_tracks else np.arange(len(truth))
    first = (rng.random(int(units.max()) + 1)[units] < FIRST) & ~is_stranger
    before = np.full(len(truth), UNKNOWN)
    some = crops.images.part(torch.from_numpy(np.flatnonzero(first)))
    before[first] = labeler(crops.features[torch.from_numpy(first)], some).numpy()
    cameras = crops.images.cameras.numpy()
    known = Known.of(
        crops.features[torch.from_numpy(first)], before[first], units[first], cameras[first], int(cameras.max()) + 1
    )
    never_given = int(before.max()) + 1
    joining = JoiningLabeler(labeler, JoinedTo(Earlier({}, never_given, {}), known, before, cameras))
    labels = joining(crops.features, crops.images)
    numbers = keep_numbers(labels, joining.identities, never_given)[0].numpy()
    had_one = before >= 0
    is_known = (numbers >= 0) & (numbers < never_given)
    most = {number: np.bincount(truth[before == number]).argmax() for number in np.unique(before[had_one])}
    is_right = np.array([most.get(number) == person for number, person in zip(numbers, truth, strict=True)])
    later = ~first & ~is_stranger
    afresh = labeler(crops.features, crops.images).numpy()
    return {
        "images_first": int(first.sum()),
        "images_later": int((~first).sum()),
        "near": joining.rule.near,
        "numbers_unchanged": float((numbers[had_one] == before[had_one]).mean()),
        "f1_first": agreement(truth[first], before[first])["pairwise_f1"],
        "f1": agreement(truth, numbers)["pairwise_f1"],
        "f1_afresh": agreement(truth, afresh)["pairwise_f1"],
        "strangers_called_known": float(is_known[is_stranger].mean()),
        "recall": float(is_known[later].mean()),
        "recall_right": float((is_known & is_right)[later].mean()),
    }


def image_by_image(found: Identities, seed: int | None = None) -> list[Question]:
    """Each image between its identity and the runner-up: the closest decisions first, or in any order."""
    margin = found.similarity - found.runner_up_similarity
    rows = ((found.identity >= 0) & (found.runner_up >= 0)).nonzero().squeeze(1)
    order = rows[margin[rows].argsort()].tolist()
    if seed is not None:
        random.Random(seed).shuffle(order)
    return [Question((row,), int(found.identity[row]), int(found.runner_up[row]), 0.0, 0.0) for row in order]


def in_any_order(questions: Sequence[Question], seed: int) -> list[Question]:
    """The same questions, shuffled."""
    return random.Random(seed).sample(questions, len(questions))


def most_typical(found: Identities) -> dict[int, int]:
    """The image of each identity most similar to its centroid."""
    typical = {}
    for number in found.numbered[0].tolist():
        rows = (found.identity == number).nonzero().squeeze(1)
        typical[number] = int(rows[found.similarity[rows].argmax()])
    return typical


class Person:
    """Somebody at the page who knows who is who, by the first image of what is asked and the typical ones beside it.

    Questions that answers have settled are passed over, as the page does.
    """

    def __init__(self, crops: Crops, truth: np.ndarray, found: Identities) -> None:
        self.paths, self.truth, self.typical = crops.paths, truth, most_typical(found)
        alone = found.identity.max() + 1 + torch.arange(len(truth))
        self.now = torch.where(found.identity < 0, alone, found.identity).numpy()
        self.asked_about: set[int] = set()
        self.known_apart: set[tuple[int, int]] = set()
        self.rows: list[Correction] = []

    def answer(self, question: Question) -> bool:
        """Gives one answer, as rows; False where the page does not ask any more."""
        images, own, other = list(question.images), self.typical.get(question.own), self.typical.get(question.other)
        if own is not None and images:
            return self._answer_about_part(images, own, other)
        one, beside = cast(int, images[0] if images else own), cast(int, other)
        if (one in self.asked_about and images) or self.now[one] == self.now[beside]:
            return False
        if tuple(sorted((self.now[one], self.now[beside]))) in self.known_apart:
            return False
        self.asked_about.update(images)
        if self._say(one, beside):
            self.now[self.now == self.now[one]] = self.now[beside]
        return True

    def _answer_about_part(self, images: list[int], own: int, other: int | None) -> bool:
        is_one = len(set(self.now[[*images, own]])) == 1
        if not is_one or own in images or self.asked_about & set(images):
            return False
        first = images[0]
        self.asked_about.add(first)
        if not self._say(first, own):
            self.asked_about.update(images)
            self.now[images] = self.now.max() + 1
            if other is not None and self.truth[first] == self.truth[other]:
                self._say(first, other)
                self.now[images] = self.now[other]
            for image in images[1:]:
                self.rows.append(Correction("same", self.paths[first], self.paths[image]))
        return True

    def _say(self, one: int, other: int) -> bool:
        is_one = bool(self.truth[one] == self.truth[other])
        self.rows.append(Correction("same" if is_one else "different", self.paths[one], self.paths[other]))
        if not is_one:
            self.known_apart.add(tuple(sorted((self.now[one], self.now[other]))))
        return is_one


def measure_answers(
    crops: Crops, truth: np.ndarray, labels: torch.Tensor, questions: Sequence[Question]
) -> list[float]:
    """Pairwise F1 after so many answers as ``ANSWERS`` says."""
    person = Person(crops, truth, compare_with_centroids(crops.features, labels))
    waiting, measured = iter(questions), []
    for number in np.diff(ANSWERS, prepend=0).tolist():
        for _ in range(number):
            next((True for question in waiting if person.answer(question)), False)
        answers = combine_answers(person.rows, {path: path for path in crops.paths}, crops.root)
        corrected = correct_labels(labels, crops.features, crops.images, answers)
        measured.append(agreement(truth, corrected.numpy())["pairwise_f1"])
    return measured


def measure_orders(crops: Crops, truth: np.ndarray, labels: torch.Tensor) -> Record:
    """Pairwise F1 by what is asked, and in which order."""
    found = compare_with_centroids(crops.features, labels)
    questions = find_questions(crops.features, found, crops.images)

    def mean_of(orders: Iterable[Sequence[Question]]) -> list[float]:
        return np.mean([measure_answers(crops, truth, labels, order) for order in orders], axis=0).tolist()

    return {
        "answers": ANSWERS,
        "f1_worth_most_first": measure_answers(crops, truth, labels, questions),
        "f1_these_at_random": mean_of(in_any_order(questions, seed) for seed in SEEDS),
        "f1_closest_images_first": measure_answers(crops, truth, labels, image_by_image(found)),
        "f1_images_at_random": mean_of(image_by_image(found, seed) for seed in SEEDS),
    }


def measure_quality(crops: Crops, truth: np.ndarray, labeler: PseudoLabeler) -> Record:
    """Both experiments: the first with several draws, the second with the labels of all images."""
    joined = [measure_joining(crops, truth, labeler, seed) for seed in SEEDS]
    return {
        "images": len(truth),
        "people": len(np.unique(truth)),
        "joining": {name: [line[name] for line in joined] for name in joined[0]},
        "joining_mean": {name: float(np.mean([line[name] for line in joined])) for name in joined[0]},
        **measure_orders(crops, truth, labeler(crops.features, crops.images)),
    }


def measure_size(images: int, dimensions: int, new: int = 1000) -> Record:
    """Seconds until new images have joined, features given."""
    generator = torch.Generator().manual_seed(0)
    people = images // 20
    looks = torch.randn(people + new // 10, dimensions, generator=generator)
    person = torch.cat([torch.arange(images) % people, torch.randint(len(looks), (new,), generator=generator)])
    noise = torch.randn(len(person), dimensions, generator=generator)
    features = torch.nn.functional.normalize(looks[person] + 0.8 * noise, dim=1)
    before = np.concatenate([person[:images].numpy(), np.full(new, UNKNOWN)])
    watch = time.perf_counter()
    cameras = np.arange(len(person)) % 6
    known = Known.of(features[:images], before[:images], np.arange(images), cameras[:images], 6)
    joined_to = JoinedTo(Earlier({}, int(before.max()) + 1, {}), known, before, cameras)
    joining = JoiningLabeler(PseudoLabeler(0.5), joined_to)
    learned = time.perf_counter()
    joining(features)
    joined = int((joining.identities[images:] >= 0).sum())
    return {
        "images": images,
        "identities": len(known.numbers),
        "new_images": new,
        "joined": joined,
        "seconds_rule": learned - watch,
        "seconds_join": time.perf_counter() - learned,
    }


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", default="log/demo/model/model-best.pth.tar", help="(default: %(default)s)")
    parser.add_argument("--crops", default=f"{DEMO}/bounding_box_train", help="(default: %(default)s)")
    parser.add_argument("--eps", type=float, help="(default: as the model was trained with)")
    parser.add_argument("--images", type=int, help="measure the seconds of joining so many images")
    parser.add_argument("--dimensions", type=int, default=512)
    parser.add_argument("--json", metavar="FILE", type=Path, help="also write the results there")
    return parser.parse_args(arguments)


def measure(options: argparse.Namespace) -> Record:
    """What the command line asks for."""
    if options.images:
        return measure_size(options.images, options.dimensions)
    settings = cluster_settings(options.weights)
    if options.eps is not None:
        settings["eps"] = options.eps
    crops = crops_from_images(FeatureExtractor(model_path=options.weights, verbose=False), options.crops, r"_c(\d)")
    return measure_quality(crops, true_people(crops.paths), PseudoLabeler(**settings))


def main(arguments: list[str] | None = None) -> int:
    """Measures, prints and saves; 2 after bad input."""
    options = parse_arguments(arguments)
    try:
        result = measure(options)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    text = json.dumps(result, indent=2)
    print(text)
    if options.json:
        options.json.write_text(text + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
