"""JSON as Kombu writes it."""
import orjson


def json_dumps(obj) -> bytes:
    """Write *obj* as JSON."""
    return orjson.dumps(obj)


def json_loads(data):
    """Read JSON."""
    return orjson.loads(data)
