"""Torchreid's own networks, and images that they take."""

import torch
import torchreid
from torch import nn

from hhcl_torchreid.models import available_backbones

TORCHREIDS = tuple(name for name in available_backbones() if not name.startswith("vit_"))
SMALL = "osnet_x0_25"
FIXED_POOLING = ("hacnn", "mudeep", "pcb_p4", "pcb_p6")
POOLING_BY_FUNCTION = ("shufflenet", "nasnsetmobile")


def plain_model(name):
    return torchreid.models.build_model(name, num_classes=5, loss="triplet", pretrained=False, use_gpu=False)


def images_for(name, count=2):
    sizes = {"hacnn": (160, 64), "mudeep": (256, 128), "inceptionresnetv2": (80, 80), "inceptionv4": (80, 80)}
    return torch.rand(count, 3, *sizes.get(name, (64, 32)), generator=torch.Generator().manual_seed(0))


def is_unit(features):
    return features.dtype == torch.float32 and torch.allclose(features.norm(dim=1), torch.ones(len(features)))


def set_random_statistics(model):
    """Move batch norm away from its initial state, in which running statistics have no effect."""
    generator = torch.Generator().manual_seed(1)
    for layer in model.modules():
        if isinstance(layer, (nn.BatchNorm1d, nn.BatchNorm2d)):
            layer.running_mean.uniform_(-0.1, 0.1, generator=generator)
            layer.running_var.uniform_(0.5, 2, generator=generator)
