"""The Redis broker."""
