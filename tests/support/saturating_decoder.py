"""A decoder whose products of 8 bits are as large as they come, so that sums of two would saturate in 16 bits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from latentserve.v1 import bundle_pb2
from latentserve_training.export.destination import Destination
from latentserve_training.export.graphs import TorchPlan
from latentserve_training.export.precision import convert
from latentserve_training.export.precision_data import ConversionData
from latentserve_training.export.publish import Content, Written, describe_graph, describe_model, publish
from latentserve_training.export.torch_to_onnx import export_graph

LATENT_DIM = 3
IMAGE_SHAPE = (1, 4, 4)


class SaturatingDecoder(nn.Module):
    """Latents [batch, 3] to images [batch, 1, 4, 4], as floats and as bytes, by two dense layers and two convolutions.

    Activations before a dense layer and the convolutions are all the largest, whatever the latents are, and so are the
    weights, with the same sign in each pair; what the latents say is added at the end.
    """

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.wide = nn.Linear(in_features=LATENT_DIM, out_features=64)
        self.narrow = nn.Linear(in_features=64, out_features=16)
        self.convolution = nn.Conv2d(1, 8, 3, padding=1)
        self.last = nn.Conv2d(8, 1, 1)
        with torch.no_grad():
            for layer in (self.narrow, self.convolution, self.last):
                rows = layer.weight.view(len(layer.weight), -1)
                signs = torch.where(torch.arange(rows.shape[1]) // 2 % 3 < 2, 1.0, -1.0)
                rows.copy_(3 * signs / rows.shape[1])

    def forward(self, latent: Tensor) -> tuple[Tensor, Tensor]:
        """Images float32, and the same as uint8."""
        wide = self.wide(latent)
        grid = torch.sigmoid(self.narrow(torch.sigmoid(wide + 20)) + 20).reshape(-1, *IMAGE_SHAPE)
        logits = self.last(torch.sigmoid(self.convolution(grid) + 20))
        image = torch.sigmoid(logits + wide[:, :16].reshape(-1, *IMAGE_SHAPE))
        return image, torch.round(255 * image).to(torch.uint8)


def publish_saturating(repository: Path) -> Path:
    """The bundle "saturating" of that decoder, version 1, as an export writes it: in float32 and int8."""
    example, calibration, held_out = ({"latent": latents(seed)} for seed in range(3))
    plan = TorchPlan(role="decoder", module=SaturatingDecoder(), example=example, outputs=("image", "image_uint8"))
    content = Content(
        manifest=describe_model(
            name="saturating",
            kind=bundle_pb2.MODEL_KIND_GAN,
            latent=bundle_pb2.LatentSpec(dim=LATENT_DIM, prior=bundle_pb2.PRIOR_STANDARD_NORMAL),
            image_shape=IMAGE_SHAPE,
            reading=bundle_pb2.PictureReading(),
            likelihood=None,
            label_count=0,
            label_names=(),
            provenance=bundle_pb2.Provenance(config_json="{}"),
            license_id="",
        ),
        plans=[plan],
        samples=Image.new("L", (4, 4)),
    )

    def write(plan: TorchPlan, folder: Path) -> list[Written]:
        path = folder / "decoder.onnx"
        difference, _ = export_graph(plan, path)
        converted = convert(plan, path, "int8", ConversionData(calibration=calibration, held_out=held_out))
        return [Written(describe_graph(plan.role, path, difference)), Written(converted)]

    destination = Destination(repository=repository, name="saturating", version=1)
    return publish(content, destination, write)


def latents(seed: int, count: int = 64) -> NDArray[np.float32]:
    """Latents [count, 3] of a seed."""
    return np.random.default_rng(seed).standard_normal((count, LATENT_DIM)).astype(np.float32)
