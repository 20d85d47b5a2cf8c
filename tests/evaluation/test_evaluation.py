import numpy as np
import pytest
import torchreid

from hhcl_torchreid.evaluation import ranking as evaluation


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


def test_no_query_that_can_be_found_is_refused_as_torchreid_does():
    distances, _, gallery_identities, query_cameras, gallery_cameras = ranking()
    strangers = np.full(40, 99)
    with pytest.raises(AssertionError, match="do not appear in gallery"):
        evaluation.evaluate_rank(distances, strangers, gallery_identities, query_cameras, gallery_cameras)
