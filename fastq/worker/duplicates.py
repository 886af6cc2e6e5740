"""Redelivered messages whose task has succeeded before (`worker_deduplicate_successful_tasks`)."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from fastq.exceptions import OperationalError, SerializationError

if TYPE_CHECKING:
    from fastq._core.message import Delivery
    from fastq.app.base import FastQ
    from fastq.backends.base import Backend

logger = logging.getLogger(__name__)


class Duplicates:
    """Looks for the results of redelivered messages in *backend*."""

    def __init__(self, app: FastQ, backend: Backend) -> None:
        self._app = app
        self._backend = backend

    def among(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        """Those whose task has succeeded. None where the backend can't tell: better twice than never."""
        ids = [delivery.message.id for delivery in deliveries if delivery.message is not None]
        try:
            documents = self._backend.fetch(ids)
        except OperationalError as exc:
            logger.warning("Whether %d redelivered tasks have succeeded can't be told: %s", len(ids), exc)
            return []
        return [
            delivery
            for delivery, document in zip(deliveries, documents, strict=True)
            if document is not None and self._is_success(document)
        ]

    def _is_success(self, document: bytes) -> bool:
        try:
            return bool(self._app.load_result(document)["status"] == "SUCCESS")
        except SerializationError:
            return False
