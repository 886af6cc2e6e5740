"""The version of fastq that is installed."""

from importlib.metadata import PackageNotFoundError, version


def installed_version() -> str:
    """The version, or "0" when fastq runs from a tree that was never installed."""
    try:
        return version("fastq-queue")
    except PackageNotFoundError:
        return "0"
