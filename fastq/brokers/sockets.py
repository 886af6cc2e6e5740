"""TCP connections to brokers and stores, with TLS as Celery's ``ssl_*`` options say."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fastq.exceptions import ImproperlyConfigured

if TYPE_CHECKING:
    import ssl

TLS_OPTIONS = {
    "ssl_cert_reqs",
    "ssl_ca_certs",
    "ssl_ca_path",
    "ssl_certfile",
    "ssl_keyfile",
    "ssl_keyfile_password",
    "ssl_check_hostname",
}


def tls_options(query: Mapping[str, str], ssl: Mapping[str, Any] | bool) -> dict[str, Any]:
    """The options of ``broker_use_ssl`` and of a URL's *query*, which counts where both say something.

    For RabbitMQ Celery writes them without the ``ssl_`` in front; both forms are taken.
    """
    options = dict(ssl) if isinstance(ssl, Mapping) else {}
    options = {name if name.startswith("ssl_") else f"ssl_{name}": value for name, value in options.items()}
    options.update({name: value for name, value in query.items() if name in TLS_OPTIONS})
    return options


def tls_context(options: Mapping[str, Any]) -> ssl.SSLContext:
    """The TLS settings that Celery's ``ssl_*`` *options* ask for; certificates are checked by default."""
    import ssl  # 20 ms to import, for those alone who use TLS

    context = ssl.create_default_context(
        cafile=options.get("ssl_ca_certs"), capath=options.get("ssl_ca_path")
    )
    required = _certificate_requirement(options.get("ssl_cert_reqs"))
    checks_name = str(options.get("ssl_check_hostname", required == ssl.CERT_REQUIRED)).lower()
    context.check_hostname = checks_name in {"true", "1", "yes"} and required != ssl.CERT_NONE
    context.verify_mode = required
    if options.get("ssl_certfile"):
        context.load_cert_chain(
            options["ssl_certfile"], options.get("ssl_keyfile"), options.get("ssl_keyfile_password")
        )
    return context


def _certificate_requirement(value: Any) -> ssl.VerifyMode:
    import ssl

    if value is None:
        return ssl.CERT_REQUIRED
    if isinstance(value, int):
        return ssl.VerifyMode(value)
    name = str(value).upper().removeprefix("CERT_")
    known = {"REQUIRED": ssl.CERT_REQUIRED, "OPTIONAL": ssl.CERT_OPTIONAL, "NONE": ssl.CERT_NONE}
    if name not in known:
        raise ImproperlyConfigured(f"ssl_cert_reqs is {value!r}: say 'required', 'optional' or 'none'")
    return known[name]


def open_tcp(
    address: tuple[str, int], timeout: float, *, keepalive: bool = True, tls: Mapping[str, Any] | None = None
) -> socket.socket:
    """A connected socket, with TLS where *tls* has its options. Raises `OSError`."""
    connected = socket.create_connection(address, timeout)
    try:
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if keepalive:
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if tls is not None:
            return tls_context(tls).wrap_socket(connected, server_hostname=address[0])
    except OSError:
        connected.close()
        raise
    return connected
