"""Short reprs of arguments and results, for events and logs: bounded in length and in time."""

cdef enum:
    MAX_TEXT = 256     # characters of one string that are looked at


cpdef str preview(value, Py_ssize_t limit=1024, int depth=3):
    """A repr of *value* of at most *limit* characters, ending in ``...`` where it was cut.

    *depth* is how many containers in containers are shown, 0 means all of them, as in
    Celery's task_repr_maxlevels.

    Takes time in proportion to *limit*, not to the size of *value*; a ``__repr__`` that
    raises is shown as such.
    """
    cdef list parts = []
    cdef Py_ssize_t left = _write(parts, value, limit, depth if depth > 0 else -1)
    text = "".join(parts)
    if left < 0 or len(text) > limit:
        return text[:limit - 3] + "..."
    return text


cdef Py_ssize_t _write(list parts, value, Py_ssize_t left, int depth):
    """Append *value*'s repr to *parts*; returns what is left of the limit, below 0 when it is used up."""
    cdef str text
    kind = type(value)
    if kind is int or kind is float or kind is bool or value is None:
        text = repr(value)
    elif kind is str or kind is bytes:
        text = repr(value) if len(value) <= MAX_TEXT else repr(value[:MAX_TEXT])[:-1] + "...'"
    elif kind is dict:
        return _write_map(parts, <dict> value, left, depth)
    elif kind is tuple or kind is list or kind is set or kind is frozenset:
        return _write_items(parts, value, kind, left, depth)
    else:
        try:
            text = repr(value)
        except Exception as exc:
            text = f"<{kind.__name__}: its repr raised {type(exc).__name__}>"
    parts.append(text)
    return left - len(text)


cdef Py_ssize_t _write_items(list parts, value, kind, Py_ssize_t left, int depth):
    cdef bint is_first = True
    cdef str opening, closing
    if kind is tuple:
        opening, closing = "(", ",)" if len(value) == 1 else ")"
    elif kind is list:
        opening, closing = "[", "]"
    elif not value:
        parts.append(f"{kind.__name__}()")
        return left - 11
    else:
        opening, closing = ("{", "}") if kind is set else ("frozenset({", "})")
    parts.append(opening)
    left -= len(opening) + len(closing)
    if depth == 0 and value:
        parts.append("...")
        left -= 3
    else:
        for item in value:
            if not is_first:
                parts.append(", ")
                left -= 2
            is_first = False
            left = _write(parts, item, left, depth - 1)
            if left < 0:
                break
    parts.append(closing)
    return left


cdef Py_ssize_t _write_map(list parts, dict value, Py_ssize_t left, int depth):
    cdef bint is_first = True
    parts.append("{")
    left -= 2
    if depth == 0 and value:
        parts.append("...")
        left -= 3
    else:
        for key, item in value.items():
            if not is_first:
                parts.append(", ")
                left -= 2
            is_first = False
            left = _write(parts, key, left, depth - 1)
            parts.append(": ")
            left = _write(parts, item, left - 2, depth - 1)
            if left < 0:
                break
    parts.append("}")
    return left
