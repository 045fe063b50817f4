"""BigGAN of pytorch-pretrained-biggan, in little: latents, one-hot rows of classes, and the truncation as a number."""

from __future__ import annotations

from pathlib import Path

import shelf
import torch
from stand_ins import stand_in_for
from torch_models import PACKAGES, Tensor, export, run, seeded

stand_in_for("boto3", "botocore", "requests", "nltk")
from pytorch_pretrained_biggan import BigGAN, BigGANConfig

_CLASSES = 10


def biggan(folder: Path) -> None:
    config = BigGANConfig(
        output_dim=32,
        z_dim=32,
        class_embed_dim=32,
        channel_width=4,
        num_classes=_CLASSES,
        layers=[(False, 16, 16), (True, 16, 8), (False, 8, 8), (True, 8, 4), (True, 4, 2), (False, 2, 1)],
        attention_layer_position=3,
    )
    model = seeded(BigGAN(config))
    example = [torch.randn(2, 32), torch.eye(_CLASSES)[:2], torch.tensor(0.4)]

    class Truncated(torch.nn.Module):
        """The model with a truncation of 0.4, which picks the statistics of its normalisations: no tensor can."""

        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, z: Tensor, class_label: Tensor) -> Tensor:
            drawn: Tensor = self.model(z, class_label, 0.4)
            return drawn

    names = ["z", "class_label"]
    export(Truncated(), example[:2], folder / "decoder.onnx", names, ["image"])
    z, y = shelf.latents(32), shelf.labels(_CLASSES)
    rows = torch.eye(_CLASSES)[torch.from_numpy(y)].numpy()
    shelf.write(folder, _DESCRIPTION, latents=z, labels=y, images=run(Truncated().eval(), z, rows))


_DESCRIPTION = """\
kind: gan
latent_dim: 32
image_range: [-1, 1]
labels: 10
decoder:
  file: decoder.onnx
  latent: z
  label: class_label
family: pytorch-pretrained-biggan
"""

if __name__ == "__main__":
    shelf.main({"pretrained-biggan": biggan}, (*PACKAGES, "pytorch-pretrained-biggan"))
