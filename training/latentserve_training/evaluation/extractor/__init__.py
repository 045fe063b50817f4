"""The pinned feature extractor: a small LeNet trained once on MNIST and shipped."""

from latentserve_training.evaluation.extractor.lenet import IMAGE_SHAPE, LeNet
from latentserve_training.evaluation.extractor.pinned import WEIGHTS, Extractor

__all__ = ["IMAGE_SHAPE", "WEIGHTS", "Extractor", "LeNet"]
