"""Image datasets in three splits of uint8 arrays [n, channels, height, width]."""

from latentserve_training.data.dataset import Dataset, Split
from latentserve_training.data.reading import READING
from latentserve_training.data.source import PLACES, DataConfig, load

__all__ = ["PLACES", "READING", "DataConfig", "Dataset", "Split", "load"]
