"""Running in the background: pid files, leaving the terminal, giving up privileges."""

from __future__ import annotations

import errno
import fcntl
import grp
import os
import pwd
import sys
from pathlib import Path
from types import TracebackType
from typing import NoReturn

from fastq.exceptions import ImproperlyConfigured

READY = b"ready"


def path_error(what: str, path: str | Path, exc: OSError) -> ImproperlyConfigured:
    """The error for a *path* that can't be used, which says which path and why."""
    return ImproperlyConfigured(
        f"the {what} {path} can't be written: {exc.strerror}; name another with --{what.replace(' ', '')}"
    )


class PidFile:
    """A file that holds the process id of the one process that has it.

    The process locks it for as long as it lives, so that a file left behind by one that was
    killed is free, even when its process id belongs to another process by now.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._fd = -1

    def acquire(self) -> None:
        """Write our process id into it.

        Raises `ImproperlyConfigured` when another process has it or it can't be written.
        """
        try:
            # A lock of fcntl, not of flock: forked children don't inherit it and can't outlive us with it.
            fd = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as exc:
            raise path_error("pid file", self.path, exc) from exc
        try:
            fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            holder = os.read(fd, 32).decode("ascii", "replace").strip()
            os.close(fd)
            if exc.errno not in (errno.EACCES, errno.EAGAIN):
                raise path_error("pid file", self.path, exc) from exc
            raise ImproperlyConfigured(
                f"another one runs already with the pid file {self.path} (process {holder or 'unknown'}): "
                "stop it, or name another file with --pidfile"
            ) from exc
        os.ftruncate(fd, 0)
        os.write(fd, f"{os.getpid()}\n".encode())
        self._fd = fd

    def release(self) -> None:
        """Remove the file, if we hold it."""
        if self._fd < 0:
            return
        try:
            self.path.unlink(missing_ok=True)
        except OSError:
            pass  # its directory may be gone or no longer ours; the lock ends all the same
        os.close(self._fd)
        self._fd = -1

    def __enter__(self) -> PidFile:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.release()


class Launch:
    """The other end of `detach`: tells the process that was started from the terminal how it went."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def leave_terminal(self, log: str | Path) -> None:
        """Send what we print to *log* from here on. Raises `ImproperlyConfigured`."""
        try:
            out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        except OSError as exc:
            raise path_error("log file", log, exc) from exc
        null = os.open(os.devnull, os.O_RDONLY)
        sys.stdout.flush()
        sys.stderr.flush()
        for source, target in ((null, 0), (out, 1), (out, 2)):
            os.dup2(source, target)
        os.close(out)
        os.close(null)

    def succeed(self) -> None:
        """Let the launching process end with 0."""
        os.write(self._fd, READY)
        os.close(self._fd)


def detach() -> Launch:
    """Go on as a process of its own session, without a terminal; returns in that process alone.

    The one that called waits for `Launch.succeed`, with the terminal still ours to say what is
    wrong on, and ends with 0 then; or, when we end before that, with 1.
    """
    read_fd, write_fd = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    if os.fork():
        os.close(write_fd)
        _leave_when_told(read_fd)
    os.close(read_fd)
    os.setsid()
    if os.fork():  # a session's leader could be given a terminal again; its child can't
        os._exit(0)
    return Launch(write_fd)


def _leave_when_told(fd: int) -> NoReturn:
    told = b""
    # Not to the end of the file: children of the worker's have the other end too.
    while len(told) < len(READY) and (part := os.read(fd, len(READY))):
        told += part
    os._exit(0 if told == READY else 1)


def drop_privileges(uid: str | None, gid: str | None) -> None:
    """Become the user *uid* and the group *gid*, names or numbers; the group defaults to the user's.

    Raises `ImproperlyConfigured`.
    """
    try:
        user = None if uid is None else pwd.getpwuid(int(uid)) if uid.isdigit() else pwd.getpwnam(uid)
        group = None if gid is None else grp.getgrgid(int(gid)) if gid.isdigit() else grp.getgrnam(gid)
    except KeyError as exc:
        raise ImproperlyConfigured(f"no such user or group on this machine: {exc.args[0]}") from exc
    try:
        if group is not None:
            os.setgid(group.gr_gid)
        elif user is not None:
            os.setgid(user.pw_gid)
        if user is not None:
            os.initgroups(user.pw_name, os.getgid())
            os.setuid(user.pw_uid)  # last: without root's rights none of the above is allowed
    except PermissionError as exc:
        raise ImproperlyConfigured("--uid and --gid: only root may become another user or group") from exc


def parse_umask(text: str) -> int:
    """*text* as a umask: octal, as in "022". Raises `ImproperlyConfigured`."""
    try:
        return int(text, 8)
    except ValueError as exc:
        raise ImproperlyConfigured(f"--umask {text}: not an octal number like 022") from exc
