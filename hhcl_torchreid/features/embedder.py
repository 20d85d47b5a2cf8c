"""The one way from pixels to unit rows."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from tqdm import tqdm

from .. import distributed
from ..data.bank import ImageBank
from ..data.transforms import normalize_images

__all__ = ["Embedder"]


class Embedder:
    def __init__(
        self, model: nn.Module, mean: Sequence[float], std: Sequence[float], precision: torch.dtype = torch.float32
    ) -> None:
        self.model, self.mean, self.std, self.precision = model, mean, std, precision

    def autocast(self):
        device = next(self.model.parameters()).device
        return torch.autocast(device.type, self.precision, enabled=self.precision != torch.float32)

    @torch.no_grad()
    def embed(self, images: Tensor) -> Tensor:
        if images.dtype == torch.uint8:
            images = normalize_images(images, self.mean, self.std)
        with self.autocast():
            return self.model(images).float()

    @torch.no_grad()
    def of_bank(self, bank: ImageBank, batch_size: int, description: str = "extract features") -> Tensor:
        of_ranks = distributed.parts(len(bank), batch_size)
        own = of_ranks[distributed.rank()]
        features = [torch.empty(0, self.model.feature_dim, device=bank.device)]
        with tqdm(total=own.stop - own.start, desc=description, unit="img", disable=None, leave=False) as progress:
            for _, images in bank.in_order(batch_size, own):
                features.append(self.embed(images))
                progress.update(len(images))
        return distributed.gather_rows(torch.cat(features), of_ranks)
