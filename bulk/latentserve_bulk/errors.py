"""The errors of jobs."""


class BulkError(Exception):
    """What stops a job, in one sentence."""


class JobDiffers(BulkError):
    """The output folder is of another job."""


class RowRejected(BulkError):
    """A row cannot be made, and the job is to stop there."""
