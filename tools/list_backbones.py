"""List what each backbone allows, as the table of docs/backbones.md; what stands there of those tried stays.

Example:
    python tools/list_backbones.py --output docs/backbones.md
"""

import argparse
import sys
import warnings
from pathlib import Path

from hhcl_torchreid.cli import run_tool
from hhcl_torchreid.files import replacing
from hhcl_torchreid.models import POOLINGS, BackboneSummary, available_backbones, describe_backbone

INTRODUCTION = f"""\
# Backbones

Every model of torchreid's factory, and two vision transformers of TransReID-SSL's, train and evaluate by setting
`model.name`; images go in, rows of unit length come out. This table is written by
`python tools/list_backbones.py --output docs/backbones.md`.

- **Feature length**: without an embedding layer; `model.embedding_dim N` makes it N. Memory bank, neighbour search and
  evaluation take memory and time in proportion to it.
- **Parameters**: the trained ones, in millions, BNNeck included. Layers that do not reach the features (classifiers,
  PCB's reduction convolution) are removed.
- **Input**: pixels, height x width. "any" is any size that survives the backbone's strides: 256 x 128 always does.
- **Pooling**: "all" is {", ".join(f"`{pooling}`" for pooling in POOLINGS)} (`model.pooling`); "own" is the backbone's
  own, so `avg` only.
- **Last stride**: whether `model.last_stride` (1 or 2) has an effect. The others have no such stage and ignore it.
- **Embedding, dropout, BNNeck**: whether `model.embedding_dim`, `model.dropout` and `model.bnneck` can be chosen.
- **ImageNet weights**: whether torchreid downloads them for `model.pretrained True`; V2: whether torchvision's better
  ones, IMAGENET1K_V2, are there for `model.pretrained V2`. Without a network, give a file by
  `model.pretrained False model.load_weights FILE`, or put it where torchreid looks: `$TORCH_HOME/hub/checkpoints`, or
  `$TORCH_HOME/checkpoints` for OSNets. For `resnet50_ibn_a` and `resnet50_ibn_b` torchreid takes the weights of the
  plain ResNet-50, which lack those of instance normalisation: load the IBN-Net authors' file where accuracy matters.
- `nasnsetmobile` is how torchreid spells NASNet-A Mobile.
- `vit_small_ics` and `vit_base_ics` are ViT-S/16 and ViT-B/16 with a stem of convolutions, batch and instance norm,
  built for `data.height` x `data.width`, with mean and deviation 0.5; `model.drop_path` skips blocks. Their weights are
  TransReID-SSL's, from LUPerson: [weights.md](weights.md).
- `timm/NAME` is any of timm's networks, built for `data.height` x `data.width`, with average pooling where it pools no
  feature map, and `model.drop_path` where it has paths to drop. Other weights are another name, as in
  `timm/resnet50.tv2_in1k`. `bot/resnet50` and `fastreid/resnet50` are those programs' own: [weights.md](weights.md).
- A network that cannot take the images is refused before anything is trained: `timm/convit_tiny`, `timm/nest_tiny` and
  `timm/efficientformer_l1` take 224 x 224 but neither 256 x 128 nor 128 x 64, `timm/inception_v3` not 128 x 64, and
  `timm/bat_resnext26ts`, `timm/crossvit_tiny_240`, `timm/halonet26t` and `timm/eca_halonext26ts` none of the three.
- `timm/fastvit_t8` does not train on a CPU: PyTorch 2.14 breaks in its backward pass of channels-last images.
"""

TRIED = "\n## Tried\n"
"""Where benchmarks/backbones.py goes on."""

COLUMNS = (
    *("`model.name`", "Feature length", "Parameters", "Input", "Pooling", "Last stride"),
    *("Embedding, dropout, BNNeck", "ImageNet weights"),
)
HEADER = f"| {' | '.join(COLUMNS)} |\n|---|---:|---:|---|---|---|---|---|\n"


def format_row(backbone: BackboneSummary) -> str:
    """One line of the table."""
    record = backbone.record
    cells = (
        f"`{backbone.name}`",
        str(backbone.feature_dim),
        f"{backbone.num_parameters / 1e6:.1f}",
        "{} x {} only".format(*record.input_size) if record.input_size else "any",
        "all" if record.set_pooling else "own",
        "1 or 2" if record.set_last_stride else "no effect",
        "yes",
        ("yes, V2" if record.v2_weights else "yes") if record.has_pretrained_weights else "no",
    )
    return f"| {' | '.join(cells)} |\n"


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="backbones to list (default: all)")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write there instead of to the screen")
    options = parser.parse_args(arguments)
    warnings.filterwarnings("ignore", module="torch")
    return run_tool(lambda: write(options))


def write(options: argparse.Namespace) -> None:
    """Writes the page to a file or to the screen."""
    rows = [format_row(describe_backbone(name)) for name in options.names or available_backbones()]
    page = f"{INTRODUCTION}\n{HEADER}{''.join(rows)}"
    if options.output:
        if options.output.exists():
            _, heading, tried = options.output.read_text(encoding="utf-8").partition(TRIED)
            page += heading + tried
        with replacing(options.output, option="--output") as file:
            file.write(page)
    else:
        print(page, end="")


if __name__ == "__main__":
    sys.exit(main())
