"""The compiled core: bytes in, values out; no sockets, no clock, no policy."""
