from types import SimpleNamespace

import numpy as np
import pytest
import torchreid

from hhcl_torchreid.evaluation import ranking as evaluation
from hhcl_torchreid.evaluation.retrieval import findable_targets


def ranking(seed=0, num_queries=40, num_gallery=200, num_identities=15):
    generator = np.random.default_rng(seed)
    distances = generator.random((num_queries, num_gallery), dtype=np.float32)
    # Some queries show people whom the gallery has not, or at their own camera alone.
    identities = generator.integers(num_identities + 5, size=num_queries), generator.integers(num_identities, size=200)
    return distances, *identities, generator.integers(3, size=num_queries), generator.integers(3, size=num_gallery)


@pytest.mark.parametrize("use_metric_cuhk03", [False, True])
@pytest.mark.parametrize("rows", [1, 7, 100])
def test_equals_torchreids_whatever_the_blocks(rows, use_metric_cuhk03, monkeypatch):
    monkeypatch.setattr(evaluation, "MEMORY_BUDGET", rows * evaluation.BYTES_PER_DISTANCE * 200)
    arguments = ranking()
    np.random.seed(0)
    expected_curve, expected_precision = torchreid.metrics.evaluate_rank(
        *arguments, use_metric_cuhk03=use_metric_cuhk03, use_cython=False
    )
    np.random.seed(0)
    curve, precision = evaluation.evaluate_rank(*arguments, use_metric_cuhk03=use_metric_cuhk03)
    assert curve.dtype == np.float32
    np.testing.assert_allclose(curve, expected_curve, atol=1e-6)
    assert precision == pytest.approx(expected_precision, abs=1e-6)


def test_measuring_shows_how_far_it_is(bars):
    shown = bars()
    evaluation.evaluate_rank(*ranking())
    assert "measure rankings: " in shown.getvalue()


def test_no_query_that_can_be_found_is_refused_as_torchreid_does():
    distances, _, gallery_identities, query_cameras, gallery_cameras = ranking()
    strangers = np.full(40, 99)
    with pytest.raises(AssertionError, match="do not appear in gallery"):
        evaluation.evaluate_rank(distances, strangers, gallery_identities, query_cameras, gallery_cameras)


def test_queries_with_unequal_numbers_of_candidates_below_fifty():
    """4 identities at 3 cameras, two images each at the first: torchreid's own curves would be of unequal lengths."""
    identities = np.repeat(np.arange(4), 4)
    cameras = np.tile([0, 0, 1, 2], 4)
    distances = np.random.default_rng(0).random((16, 16), dtype=np.float32)
    curve, precision = evaluation.evaluate_rank(distances, identities, identities, cameras, cameras)
    first_hits, precisions = [], []
    for query in range(16):
        counts = (identities != identities[query]) | (cameras != cameras[query])
        hits = (identities[counts] == identities[query])[distances[query][counts].argsort()]
        first_hits.append(hits.argmax())
        precisions.append(np.mean([hits[: rank + 1].mean() for rank in np.flatnonzero(hits)]))
    np.testing.assert_allclose(curve, [np.mean(np.array(first_hits) <= rank) for rank in range(16)], atol=1e-6)
    assert precision == pytest.approx(np.mean(precisions), abs=1e-6)


def loaders(query, gallery):
    def loader(records):
        return SimpleNamespace(dataset=SimpleNamespace(data=[("", *record, 0) for record in records]))

    return {"query": loader(query), "gallery": loader(gallery)}


def test_a_test_set_in_which_nobody_can_be_found_is_named_and_left_out(capsys):
    targets = {
        "good": loaders([(1, 0), (2, 0)], [(1, 1)]),
        "one_camera": loaders([(1, 0)], [(1, 0), (2, 0)]),
        "strangers": loaders([(1, 0)], [(2, 1)]),
        "unlabelled": loaders([], []),
    }
    assert list(findable_targets(targets)) == ["good"]
    said = capsys.readouterr().out
    assert "one_camera cannot be tested" in said and "strangers cannot be tested" in said and "unlabelled" not in said
