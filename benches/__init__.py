"""Whole-system benches: fastq beside its floor (DESIGN.md §5) and beside Celery, in one run.

`python -m benches` runs them, `python -m benches.compare` compares two runs, and
`pytest benches` measures the core's functions. Each `bench_*.py` answers one question.
"""
