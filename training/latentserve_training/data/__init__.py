"""Image datasets, whole and in memory: uint8 images [n, channels, height, width] in three splits."""

from latentserve_training.data.dataset import Dataset, Split
from latentserve_training.data.reading import READING
from latentserve_training.data.source import PLACES, DataConfig, load

__all__ = ["PLACES", "READING", "DataConfig", "Dataset", "Split", "load"]
