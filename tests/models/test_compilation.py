"""Compiled networks."""

import pytest
import torch
from torch import nn

from hhcl_torchreid import build_model
from hhcl_torchreid.errors import InputError
from hhcl_torchreid.models.compilation import compile_model


class Softmax(nn.Conv2d):
    """PyTorch's own containers would not be compiled by every version of it."""

    def forward(self, images):
        return super().forward(images).softmax(dim=1)


def test_a_machine_without_a_compiler_is_told_so():
    with (
        torch._inductor.config.patch({"cpp.cxx": (None, "no-such-compiler"), "fx_graph_cache": False}),
        pytest.raises(InputError, match=r"train.compile: torch.compile fails here .*: set it to False"),
    ):
        compile_model(Softmax(3, 4, 3), (8, 8))


def test_each_mode_is_compiled_once():
    """PyTorch gives up after eight graphs of a model, and each takes its time."""
    model, graphs = build_model("resnet18", pretrained=False), []

    def backend(graph, _inputs):
        graphs.append(graph)
        return graph.forward

    model.compile(backend=backend)
    for train in (True, False, True):
        model.train(train)
        for _ in range(2):
            model(torch.rand(4, 3, 64, 32))
    assert len(graphs) == 2
