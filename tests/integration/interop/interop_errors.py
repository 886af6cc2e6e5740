"""Exceptions that the tasks raise, known to workers and clients alike."""


class PaymentRefused(Exception):
    """A user's own exception, with arguments."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason
