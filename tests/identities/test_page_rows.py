"""The rows of corrections.csv that the page's answers become, against a slow reading of them."""

import random
import re

import torch
from crops import draw
from pages import Shown

from hhcl_torchreid.data.corrections import Correction
from hhcl_torchreid.errors import InputError
from hhcl_torchreid.identities import compare_with_centroids
from hhcl_torchreid.labels import Images, combine_answers, correct_labels

NOBODY, OUTLIER = -2, -1

# Does what a plan says with the page's own functions, in a result of its own; the last steps take everything back.
RUN_PLAN = """([data, plan]) => {
    const people = window.byIdentity(data);
    const answers = window.identityAnswers(people);
    const now = () => data.path.map((_, image) => people.groupOf(image));
    const named = () => people.identities().map(({ number }) => [number, people.nameGiven(number)]);
    const start = JSON.stringify([now(), named()]);
    const [steps, deltas] = [[], []];
    for (const [kind, image, share, text] of plan) {
        const numbers = people.identities().map(({ number }) => number);
        const pick = (place) => numbers[Math.floor(place * numbers.length)];
        const [own, other] = [people.groupOf(image), pick(share)];
        const unit = people.unit(image);
        const all = people.identity(own)?.images ?? [image];
        const some = all.filter((_, place) => (place * 7 + image) % 10 < 10 * share);
        const isUseless = { move: own === other, split: own < 0 || !some.length || !answers.isBesideOthers(some),
            merge: own < 0 || own === other, apart: own < 0 || own === other, name: own < 0 }[kind];
        if (isUseless) continue;
        const before = now();
        const made = { confirm: () => answers.confirm([image]), move: () => answers.move([image], other),
            split: () => answers.split(some), nobody: () => answers.nobody([image]),
            name: () => answers.name(own, text),
            merge: () => answers.merge(own, other), apart: () => answers.apart(own, other) }[kind]();
        deltas.push(...made.map((row) => people.apply(row)));
        steps.push({ kind, own, other, text, before, after: now(), rows: made, named: Object.fromEntries(named()),
            concerned: kind === "split" ? some.flatMap(people.unit) : unit });
    }
    const again = window.byIdentity(data);
    for (const row of steps.flatMap((step) => step.rows)) again.apply(row);
    const isSame = data.path.every((_, image) => again.groupOf(image) === people.groupOf(image));
    for (const delta of deltas.reverse()) people.takeBack(delta);
    return [steps, isSame, start === JSON.stringify([now(), named()])];
}"""


def made_up_result(numbers, seed, num_images=30):
    """The data of a page, of which some images are tracks."""
    drawn = random.Random(seed)
    identity = [
        number % numbers if number < 2 * numbers else drawn.randrange(OUTLIER, numbers) for number in range(num_images)
    ]
    return {
        "path": [f"{image}.jpg" for image in range(num_images)],
        "camera": [image % 3 for image in range(num_images)],
        "track": [drawn.randrange(5) if drawn.random() < 0.4 else -1 for _ in identity],
        "identity": identity,
        "similarity": [None if number == OUTLIER else drawn.random() for number in identity],
        "runnerUp": [(number + 1) % numbers for number in identity],
        "runnerUpSimilarity": [drawn.random() / 2 for _ in identity],
    }


def latest(steps):
    """The rows that no later row about the same images replaces."""
    kept = {}
    for answer_, image, other, *name in (row for step in steps for row in step["rows"]):
        pair = frozenset((image, other)) if answer_ in ("same", "different") else (answer_, image)
        kept.pop(pair, None)
        kept[pair] = (answer_, image, other, *name)
    return list(kept.values())


def check_rows(data, steps):
    """No answer contradicts another, nor what the page shows; all by joining images one by one."""
    after = steps[-1]["after"]
    person = list(range(len(after)))

    def join(one, other):
        old, new = person[one], person[other]
        person[:] = [new if value == old else value for value in person]

    units = [
        (track, number) if track >= 0 else image
        for image, (track, number) in enumerate(zip(data["track"], data["identity"], strict=True))
    ]
    for image, unit in enumerate(units):
        join(image, units.index(unit))
    pairs = [row[:3] for row in latest(steps) if row[0] in ("same", "different")]
    for kind, one, other in pairs:
        if kind == "same":
            join(one, other)
            assert after[one] == after[other] >= 0
    for kind, one, other in pairs:
        if kind == "different" and NOBODY not in (after[one], after[other]):
            assert person[one] != person[other] and (after[one] != after[other])
    names = {}
    for kind, image, _, *name in latest(steps):
        if kind == "name" and name[0]:
            assert names.setdefault(after[image], name[0]) == name[0]


def check_reading(data, steps):
    """The rows, read back into the labels that the page began with, do what they say."""
    paths = data["path"]
    rows = [
        Correction(answer, paths[image], paths[other] if other >= 0 else "", *name)
        for step in steps
        for answer, image, other, *name in step["rows"]
    ]
    answers = combine_answers(rows, {path: path for path in paths}, "")
    generator = torch.Generator().manual_seed(0)
    features = torch.nn.functional.normalize(torch.randn(len(paths), 8, generator=generator), dim=1)
    unknown = torch.full((len(paths),), -1)
    cameras, tracks = torch.tensor(data["camera"]), torch.tensor(data["track"])
    images = Images(tuple(paths), cameras, torch.zeros_like(cameras), tracks, unknown)
    labels = correct_labels(torch.tensor(data["identity"]), features, images, answers).tolist()
    label_of = dict(zip(paths, labels, strict=True))
    for answer, path, other, *_ in answers.rows:
        if answer == "nobody":
            assert label_of[path] == OUTLIER
        elif answer == "same":
            assert label_of[path] == label_of[other] >= 0
        elif answer == "different" and label_of[path] >= 0:
            assert label_of[path] != label_of[other]


def test_rows_never_contradict_each_other_and_say_what_the_page_shows(open_page, tmp_path):
    draw(tmp_path / "crops", "a.jpg")
    found = compare_with_centroids(torch.eye(2)[:1], torch.tensor([0]))
    page = open_page(Shown(tmp_path, ["a.jpg"], [""], found).address)
    kinds = ["confirm", "move", "move", "split", "nobody", "merge", "apart", "name"]
    for seed in range(60):
        drawn = random.Random(seed)
        data = made_up_result(3 + seed % 4, seed)
        plan = [
            (drawn.choice(kinds), drawn.randrange(30), drawn.random(), drawn.choice(["", "Ann", "Bob"]))
            for _ in range(20)
        ]
        steps, is_same_again, is_taken_back = page.evaluate(RUN_PLAN, [data, plan])
        assert is_same_again and is_taken_back
        for number, step in enumerate(steps):
            before, after, concerned = step["before"], step["after"], set(step["concerned"])
            where = {after[image] for image in concerned}
            left = [image for image in range(30) if before[image] == step["own"] >= 0 and image not in concerned]
            assert len(where) == 1
            if step["kind"] in ("move", "merge"):
                assert where == {after[image] for image in range(30) if before[image] == step["other"]}
            if step["kind"] == "nobody":
                assert where == {NOBODY}
            if step["kind"] in ("move", "split", "nobody"):
                assert not where & {after[image] for image in left} and len({after[image] for image in left}) <= 1
            if step["kind"] in ("confirm", "apart", "name"):
                assert before == after
            if step["kind"] == "name":
                assert step["named"][str(step["own"])] == step["text"]
            check_rows(data, steps[: number + 1])
        check_reading(data, steps)


# What the page says of rows, and of those with which somebody then answers about the images that it names.
SETTLE = """([data, rows, isMerging]) => {
    const people = window.byIdentity(data);
    const answers = window.identityAnswers(people);
    for (const row of rows) people.apply(row);
    const said = [window.identityContradiction(data, rows)];
    while (said.at(-1) && said.length < 20) {
        const [first, last, ...between] = said.at(-1).match(/\\d+(?=[.]jpg)/g).map(Number);
        const way = [first, ...between, last].map(people.groupOf);
        const place = way.findIndex((number, step) => step > 0 && number !== way[step - 1]);
        const made = place < 0 ? answers[isMerging ? "confirm" : "split"]([first])
            : answers[isMerging ? "merge" : "apart"](way[place - 1], way[place]);
        for (const row of made) people.apply(row);
        rows.push(...made);
        said.push(window.identityContradiction(data, rows));
    }
    return said;
}"""


def test_contradictions_are_those_of_the_tool_and_can_be_settled(open_page, tmp_path):
    draw(tmp_path / "crops", "a.jpg")
    found = compare_with_centroids(torch.eye(2)[:1], torch.tensor([0]))
    page = open_page(Shown(tmp_path, ["a.jpg"], [""], found).address)
    drawn, contradicting = random.Random(0), 0
    for _ in range(150):
        data = made_up_result(3, 0, num_images=8) | {"track": [-1] * 8}
        kinds = drawn.choices(["same", "different", "nobody", "name"], [6, 4, 1, 1], k=drawn.randrange(4, 12))
        rows = [(kind, *drawn.sample(range(8), 2)) for kind in kinds]
        rows = [(kind, one, other if kind in ("same", "different") else -1, "") for kind, one, other in rows]
        given = [
            Correction(kind, f"{one}.jpg", f"{other}.jpg" if other >= 0 else "", "", "a row")
            for kind, one, other, _ in rows
        ]
        try:
            combine_answers(given, {path: path for path in data["path"]}, "")
            named = []
        except InputError as error:
            named = re.findall(r"'(\d+\.jpg)'", str(error))
            contradicting += 1
        said = page.evaluate(SETTLE, [data, rows, drawn.random() < 0.5])
        assert re.findall(r"\d+\.jpg", said[0])[: len(named)] == named and bool(said[0]) == bool(named)
        assert said[-1] == ""
    assert contradicting > 20
