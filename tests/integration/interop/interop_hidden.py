"""An exception that no client imports."""


class Hidden(Exception):
    """Known to workers alone."""
