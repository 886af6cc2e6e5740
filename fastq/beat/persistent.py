"""Celery's scheduler that keeps in a file when its entries ran; the file is Celery's too."""

from __future__ import annotations

import errno
import logging
import os
from typing import Any

from fastq.beat import shelf
from fastq.beat.scheduler import Scheduler
from fastq.exceptions import ImproperlyConfigured
from fastq.version import __version__

logger = logging.getLogger("fastq.beat")

# What a database that another process has open says.
IN_USE = (errno.EAGAIN, errno.EACCES)


class PersistentScheduler(Scheduler):
    """Keeps the entries in the shelf *schedule_filename*, which one beat may have open.

    Entries are those of the settings; of the file counts when they ran. It is begun anew when
    the zone of the app, or ``enable_utc``, has changed, as in Celery.
    """

    persistence: Any = shelf
    known_suffixes = ("", ".db", ".dat", ".bak", ".dir")

    _store: Any = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.schedule_filename = kwargs.get("schedule_filename")
        super().__init__(*args, **kwargs)

    def setup_schedule(self) -> None:
        """Open the file, and have its entries agree with the settings."""
        self._store = self._open()
        marks = {"tz": self.app.conf.timezone, "utc_enabled": self.app.conf.enable_utc}
        stored = {name: self._store.get(name) for name in marks}
        if "__version__" not in self._store or any(
            stored[name] is not None and stored[name] != value for name, value in marks.items()
        ):
            if len(self._store):
                logger.warning("%s begins anew: it was written for %s", self.schedule_filename, stored)
            self._store.clear()
        self._store.setdefault("entries", {})
        self.merge_inplace(self.app.conf.beat_schedule)
        self.install_default_entries(self.schedule)
        self._store.update({"__version__": __version__, **marks})
        self.sync()

    def _open(self) -> Any:
        """The open file; one that can't be read is put aside for a new one."""
        try:
            store = self._open_schedule()
            for key in list(store):
                store[key]
        except (ModuleNotFoundError, AttributeError) as exc:
            raise ImproperlyConfigured(
                f"{self.schedule_filename} holds something that this program lacks: {exc}; "
                "delete the file if it is not needed any more"
            ) from exc
        except Exception as exc:
            if isinstance(exc, OSError) and exc.errno in IN_USE:
                raise ImproperlyConfigured(
                    f"the schedule file {self.schedule_filename} can't be opened ({exc.strerror}): is "
                    "another beat running? Name another file with -s"
                ) from exc
            logger.exception("%s can't be read, and is put aside", self.schedule_filename)
            self._put_aside()
            store = self._open_schedule()
        return store

    def _open_schedule(self) -> Any:
        return self.persistence.open(self.schedule_filename, writeback=True)

    def _put_aside(self) -> None:
        for suffix in self.known_suffixes:
            path = f"{self.schedule_filename}{suffix}"
            if os.path.exists(path):
                os.replace(path, f"{path}.unreadable")

    def get_schedule(self) -> Any:
        return self._store["entries"]

    def set_schedule(self, schedule: Any) -> None:
        self._store["entries"] = schedule

    def sync(self) -> None:
        """Write the file."""
        if self._store is not None:
            self._store.sync()

    def close(self) -> None:
        """Write the file and close it."""
        if self._store is not None:
            self._store.close()
            self._store = None

    @property
    def info(self) -> str:
        return f"in the file {self.schedule_filename}"
