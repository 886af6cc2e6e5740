"""The `fastq` command: parses arguments and calls the rest."""
