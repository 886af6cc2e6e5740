"""The command line in this process, for tests."""

from fastq.cli.commands import Session


def run(arguments: list[str]) -> int:
    """Run a command other than a worker; returns its exit code."""
    with Session() as session:
        session.exit_code = session.command(arguments)
    return session.exit_code
