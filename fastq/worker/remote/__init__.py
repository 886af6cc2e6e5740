"""Remote control: what a worker answers, and does, when asked by Celery's pidbox (docs/PROTOCOL.md §7)."""
