"""Test-time re-ranking from the k-reciprocal encoding, without a square matrix of all images."""

import torch
from torch import Tensor

from ..errors import InputError, explain_out_of_memory
from . import jaccard_scipy, jaccard_torch
from .blocks import map_blocks, rows_within
from .jaccard_torch import SparseRows, spans
from .neighbors import COPY_TOLERANCE, check_features, search
from .precision import in_float32

__all__ = ["re_ranking"]

MEMORY_BUDGET = 256 << 20


@torch.no_grad()
@in_float32()
@explain_out_of_memory("re-ranking")
def re_ranking(
    query_features: Tensor, gallery_features: Tensor, k1: int = 20, k2: int = 6, lambda_value: float = 0.3
) -> Tensor:
    """Distances from queries to gallery images, mixed with the Jaccard distances of their neighbourhoods.

    Equals ``torchreid.utils.re_ranking`` on the three matrices that torchreid's engine gives it, whichever its
    ``dist_metric``: it squares squared Euclidean (or cosine) distances and divides them by each image's largest, which
    on unit rows is the same for both metrics. Memory beyond the result grows with Q + G, where torchreid's holds
    several (Q + G) x (Q + G) matrices.

    Args:
        query_features: ``(Q, D)`` floating-point rows of unit length, on any device.
        gallery_features: ``(G, D)`` likewise, on the same device.
        k1: nearest neighbours, beside the row itself, among which reciprocal ones are sought.
        k2: nearest neighbours, the row itself included, over which encodings are averaged; 1 leaves them as they are.
        lambda_value: weight of the original distance in the result, from 0 to 1.

    Returns:
        ``(Q, G)`` float32 distances on the features' device.

    Raises:
        InputError: features that are not finite unit rows or do not match, a setting out of range, or out of memory.

    References:
        Zhong, Zheng, Cao, Li: Re-ranking Person Re-identification with k-reciprocal Encoding, CVPR 2017.

    Example:
        >>> rows = torch.nn.functional.normalize(torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0]]), dim=1)
        >>> re_ranking(rows[:1], rows[1:], k1=1, k2=1).argsort(dim=1)
        tensor([[0, 1]])
    """
    _check_settings(query_features, gallery_features, k1, k2, lambda_value)
    num_queries = len(query_features)
    features = check_features(torch.cat([query_features, gallery_features]))
    lowest = features.new_ones(len(features))
    found, similarities = search(features, max(k1 + 1, k2), lowest=lowest)
    neighbors, similarities, averaged = found[:, : k1 + 1], similarities[:, : k1 + 1], found[:, :k2]

    def weigh(similarities: Tensor, rows: Tensor) -> Tensor:
        return torch.exp(-_normalized_distances(similarities, lowest[rows]))

    on_cpu = features.device.type == "cpu"
    half = min(round(k1 / 2) + 1, neighbors.shape[1])
    encode = jaccard_scipy.encode if on_cpu else jaccard_torch.encode
    encoding = SparseRows.of(encode(features, neighbors, similarities, half, averaged, weigh))

    result = features.new_empty(num_queries, len(gallery_features))
    columns = _gallery_by_column(encoding, num_queries)

    def mix(start: int, stop: int) -> None:
        overlaps = _overlaps_with_gallery(encoding, columns, start, stop, result.shape[1])
        jaccard = 1 - overlaps / (2 - overlaps)
        similarities = features[start:stop] @ features[num_queries:].T
        original = _normalized_distances(similarities, lowest[start:stop].unsqueeze(1))
        result[start:stop] = jaccard.mul_(1 - lambda_value).add_(original, alpha=lambda_value)

    longest_query = int(encoding.offsets.diff()[:num_queries].max())
    fullest_column = int(columns.offsets.diff().max())
    bytes_per_query = 20 * result.shape[1] + 48 * min(longest_query * fullest_column, 16 * result.shape[1])
    map_blocks(num_queries, rows_within(MEMORY_BUDGET, bytes_per_query), mix, "re-ranking", is_long=True)
    return result


def _check_settings(queries: Tensor, gallery: Tensor, k1: int, k2: int, lambda_value: float) -> None:
    if queries.ndim != 2 or gallery.ndim != 2 or queries.shape[1] != gallery.shape[1]:
        raise InputError(
            f"Query features of shape {tuple(queries.shape)} and gallery features of shape {tuple(gallery.shape)} do "
            "not match: both need one row per image and the same number of dimensions"
        )
    if 0 in queries.shape or 0 in gallery.shape:
        raise InputError("re-ranking needs at least one query and one gallery image: check the data set's folders")
    if k1 < 1 or k2 < 1 or not 0 <= lambda_value <= 1:
        raise InputError(
            f"k1 = {k1} and k2 = {k2} must be at least 1, and lambda_value = {lambda_value} from 0 to 1, to re-rank"
        )


def _normalized_distances(similarities: Tensor, lowest: Tensor) -> Tensor:
    """Gives squared cosine distances in units of the row's largest, as torchreid computes them."""
    # Where all images are copies the largest distance is nothing but rounding, and no unit to measure others in.
    largest = (1 - lowest).clamp_(min=COPY_TOLERANCE)
    return ((1 - similarities) / largest).square_()


def _gallery_by_column(encoding: SparseRows, num_queries: int) -> SparseRows:
    """Gives the gallery's part of the encoding, transposed: for every column the gallery images that have it."""
    num_rows = len(encoding.offsets) - 1
    first = int(encoding.offsets[num_queries])
    columns, values = encoding.columns[first:], encoding.values[first:]
    lengths = encoding.offsets.diff()[num_queries:]
    images = torch.arange(len(lengths), device=lengths.device).repeat_interleave(lengths)
    order = columns.argsort(stable=True)
    sizes = torch.bincount(columns, minlength=num_rows)
    return SparseRows(torch.cat([sizes.new_zeros(1), sizes.cumsum(0)]), images[order], values[order])


def _overlaps_with_gallery(
    encoding: SparseRows, columns: SparseRows, start: int, stop: int, num_gallery: int
) -> Tensor:
    """Gives the ``(stop - start, G)`` sums of the smaller weights of queries and gallery images."""
    queries, entries = encoding.select(torch.arange(start, stop, device=encoding.columns.device))
    shared = encoding.columns[entries]
    starts = columns.offsets[shared]
    which, places = spans(starts, columns.offsets[shared + 1] - starts)
    smaller = torch.minimum(encoding.values[entries][which], columns.values[places])
    overlaps = smaller.new_zeros(stop - start, num_gallery)
    # Sums that several threads race for would differ from run to run on a GPU; index_put_ keeps their order.
    return overlaps.index_put_((queries[which], columns.columns[places]), smaller, accumulate=True)
