"""Identities of a folder of crops from Python: features, clusters, and the tables and the page of them.

``python tests/examples/identities_from_python.py MODEL CROPS DIR``
"""

import sys

from hhcl_torchreid import FeatureExtractor, PseudoLabeler
from hhcl_torchreid.identities import clusters_by_eps, crops_from_images, recommend_eps, write_identities


def identify(weights, crops, out, device=None, **clustering):
    """Takes the eps that is recommended for these images, and the labeler's own where none is; gives the identities."""
    extractor = FeatureExtractor(model_path=weights, device=device, verbose=False)
    found = crops_from_images(extractor, crops)
    tried = clusters_by_eps(found.features, [number / 20 for number in range(4, 16)], **clustering)
    best = recommend_eps(tried)
    labeler = PseudoLabeler(**clustering, **({"eps": best[0]} if best else {}))
    return write_identities(out, found, labeler)


if __name__ == "__main__":
    identities = identify(*sys.argv[1:4])
    print(f"{identities.num_identities} identities in {len(identities)} images")
