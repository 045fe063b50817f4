"""LeNet-5 (LeCun et al. 1998) with ReLU and max pooling: 61,706 weights, 84 features."""

from __future__ import annotations

from torch import Tensor, nn

IMAGE_SHAPE = (1, 28, 28)
CLASSES = 10
FEATURES = 84


class LeNet(nn.Module):
    """Images float32 [batch, 1, 28, 28] in [0, 1] to logits [batch, 10], by way of 84 features."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(in_channels=1, out_channels=6, kernel_size=5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(kernel_size=2),  # [batch, 6, 14, 14]
            nn.Conv2d(in_channels=6, out_channels=16, kernel_size=5),
            nn.ReLU(),
            nn.MaxPool2d(kernel_size=2),  # [batch, 16, 5, 5]
            nn.Flatten(),
            nn.Linear(in_features=400, out_features=120),
            nn.ReLU(),
            nn.Linear(in_features=120, out_features=FEATURES),
            nn.ReLU(),
        )
        self.head = nn.Linear(in_features=FEATURES, out_features=CLASSES)

    def features(self, images: Tensor) -> Tensor:
        """The features that the last layer classifies by, float32 [batch, 84]."""
        features: Tensor = self.body(images)
        return features

    def forward(self, images: Tensor) -> Tensor:
        """Logits of the classes."""
        logits: Tensor = self.head(self.features(images))
        return logits
