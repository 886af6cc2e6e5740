"""Every exception of fastq."""


class FastQError(Exception):
    """The root of all errors of fastq."""


class DecodeError(FastQError, ValueError):
    """A message or a body that is not what it claims to be."""


class OperationalError(FastQError, ConnectionError):
    """A broker or result backend that can't be reached."""
