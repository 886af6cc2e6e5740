"""Keep secrets out of what is shown: passwords in URLs, values of secret settings and options."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

MASK = "********"  # in place of a whole value, as Celery shows it
URL_MASK = "**"  # in place of a password in a URL

_SECRET_WORDS = (
    "password",
    "passwd",
    "passphrase",
    "secret",
    "token",
    "credential",
    "access_key",
    "account_key",
    "api_key",
    "private_key",
)
# Several URLs may be joined by ';'. A ';' within a password is not followed by a scheme.
_NEXT_URL = re.compile(r";(?=[\w+.-]+://)")


def mask_url(url: str) -> str:
    """Return *url*, or several joined by ``;``, with every password replaced by ``**``."""
    return ";".join(map(_mask_one_url, _NEXT_URL.split(url)))


def _mask_one_url(url: str) -> str:
    scheme, separator, rest = url.partition("://")
    if not separator:
        return url
    if scheme == "azureblockblob":  # the rest is a connection string with the key in it
        return f"{scheme}://{URL_MASK}"
    place, mark, query = rest.partition("?")
    # The last '@': a password may hold '@' or '/' unquoted, and must not be shown even then.
    user_info, at, host = place.rpartition("@")
    user, colon, _ = user_info.partition(":")
    if colon:
        place = f"{user}:{URL_MASK}{at}{host}"
    return f"{scheme}://{place}{mark}{'&'.join(map(_mask_parameter, query.split('&')))}"


def _mask_parameter(parameter: str) -> str:
    name, equals, _ = parameter.partition("=")
    return f"{name}={URL_MASK}" if equals and is_secret_name(name) else parameter


def is_secret_name(name: object) -> bool:
    """Whether an option of this name holds a secret."""
    return isinstance(name, str) and any(word in name.lower() for word in _SECRET_WORDS)


def mask(value: Any) -> Any:
    """Return *value* with the passwords of URLs and the values of secret options replaced, at any depth."""
    if isinstance(value, str):
        return mask_url(value)
    if isinstance(value, Mapping):
        return {
            key: MASK if is_secret_name(key) and item is not None else mask(item)
            for key, item in value.items()
        }
    if type(value) in (list, tuple, set, frozenset):
        return type(value)(map(mask, value))
    return value
