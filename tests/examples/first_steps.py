# %% [markdown]
# # From unlabelled crops to identities
#
# Rendered people are drawn, a small network learns from them without labels, and every image gets an identity. It takes
# a few minutes on two cores, and needs the installed package or `pip install -e .` in a checkout.

# %%
from pathlib import Path

from hhcl_torchreid import FeatureExtractor, PseudoLabeler
from hhcl_torchreid.config import load_config
from hhcl_torchreid.identities import (
    clusters_by_eps,
    crops_from_images,
    recommend_eps,
    table_of_clusters,
    write_identities,
)
from hhcl_torchreid.runner import run
from hhcl_torchreid.search import search

# %% [markdown]
# ## Train
#
# `hhcl_demo.yaml` comes with the package. What stands here replaces settings of it; docs/configuration.md lists all.
# The images are drawn on first use.

# %%
settings = {"data.root": "data", "data.save_dir": "log/first_steps", "train.max_epoch": 3}
engine = run(load_config("hhcl_demo.yaml", overrides=settings))

# %% [markdown]
# The first line is the model before training. `ari` compares the pseudo labels with the truth, which training never
# sees; `self_retrieval` needs no labels: docs/best_epoch.md.

# %%
for line in engine.history.lines:
    print({name: round(value, 3) for name, value in line.items() if name in ("epoch", "mAP", "ari", "self_retrieval")})

# %% [markdown]
# ## Give every image an identity
#
# Only the camera is read from the file names. `eps` is chosen without labels: docs/folder_to_identities.md.

# %%
crops = Path(settings["data.root"], "synthetic_market", "Market-1501-v15.09.15", "bounding_box_train")
extractor = FeatureExtractor(model_path=engine.folder.best_checkpoint, verbose=False)
found = crops_from_images(extractor, crops, camera_regex=r"_c(\d)")
neighbours = {"k1": 20, "k2": 6, "min_samples": 4}
tried = clusters_by_eps(found.features, [0.4, 0.45, 0.5, 0.55, 0.6], **neighbours)
print(table_of_clusters(tried))
eps, reason = recommend_eps(tried) or (0.5, "none separates them")
print(f"eps {eps:g}: {reason}")

# %%
out = Path(settings["data.save_dir"], "identities")
identities = write_identities(out, found, PseudoLabeler(eps=eps, **neighbours))
print(f"{identities.num_identities} identities, {identities.num_outliers} outliers of {len(identities)} images")
print(f"open {out / 'index.html'} in a browser")

# %% [markdown]
# ## Search
#
# The test images that look most like a query, with a picture of each ranking.

# %%
queries = sorted((crops.parent / "query").glob("*.jpg"))[:2]
rankings = search(extractor, queries, crops.parent / "bounding_box_test", topk=5, out=out.parent / "search")
