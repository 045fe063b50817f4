"""Errors that end a command with one line for its user.

TrainingError
├── ConfigError      a setting that is wrong by itself or does not fit the data
├── DataError        data that is missing, damaged or of the wrong shape
├── RunError         a run folder or checkpoint that cannot be used as asked
├── DivergedError    a loss, gradient or weight that is no longer finite
├── CollapsedError   a GAN whose generator or discriminator has given up
└── ExportError      a graph that failed a check, or a bundle that cannot be published
InterruptedRun       not a failure: the run was asked to stop and has saved itself
"""


class TrainingError(Exception):
    """A failure whose message is one line that says what was wrong, where, and what is allowed."""


class ConfigError(TrainingError, ValueError):
    """A setting that is wrong by itself or does not fit the data."""


class DataError(TrainingError):
    """Data that is missing, damaged or of the wrong shape."""


class RunError(TrainingError):
    """A run folder or checkpoint that cannot be used as asked."""


class DivergedError(TrainingError):
    """A loss, gradient or weight that is no longer finite."""


class CollapsedError(TrainingError):
    """A GAN whose generator or discriminator has given up."""


class ExportError(TrainingError):
    """A graph that failed a check, or a bundle that cannot be published."""


class InterruptedRun(Exception):
    """The run was asked to stop; its checkpoint is saved and the same command continues it."""
