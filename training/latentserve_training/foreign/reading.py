"""The rules by which picture files become a foreign model's images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from latentserve.v1 import bundle_pb2
from latentserve_training.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class ForeignReading:
    """What was done with picture files in training. Unless it says otherwise, what Pillow's open and convert do."""

    upright: bool = False
    """Whether they were turned as their EXIF orientation says."""

    background: list[int] | None = None
    """Red, green and blue, 0 to 255, that transparent pixels lay on; transparency was dropped when absent."""

    grey: Literal["rec601", "rec709"] = "rec601"
    """The weights of red, green and blue in a grey pixel."""

    fit: Literal["stretch", "crop"] = "stretch"
    """Whether other proportions were not kept, or the middle was cut out."""

    filter: Literal["nearest", "box", "bilinear", "bicubic", "lanczos"] = "bicubic"
    """How they were resized: Pillow's name of the filter."""

    def __post_init__(self) -> None:
        ground = self.background
        if ground is not None and not (len(ground) == 3 and all(0 <= level <= 255 for level in ground)):
            raise ConfigError(f"reading.background is {ground}; it must be [red, green, blue], each from 0 to 255")

    def message(self) -> bundle_pb2.PictureReading:
        """The reading as a message of the manifest."""
        ground = None if self.background is None else dict(zip(("red", "green", "blue"), self.background, strict=True))
        return bundle_pb2.PictureReading(
            upright=self.upright,
            background=None if ground is None else bundle_pb2.Colour(**ground),
            grey=f"GREY_WEIGHTS_{self.grey.upper()}",
            fit=f"FIT_{self.fit.upper()}",
            filter=f"RESIZE_FILTER_{self.filter.upper()}",
        )
