"""Checks that no other user can read, change or replace the files of `SQLiteStore`.

How this works
    Another user who can write to a directory can put a file of their own where SQLite expects
    its database, its ``-wal``, its ``-shm`` or its ``-journal``. SQLite then writes the token into
    that file, or reads an entry from it. So each request checks the path first, and writes
    nothing if a check fails.

Why a sticky directory is not enough
    In a sticky directory such as ``/tmp``, other users cannot replace files, but they can create
    missing ones. SQLite deletes its companion files when the last connection closes, and creates
    them again when the next one opens. A check before SQLite opens them comes too early. A check
    afterwards comes too late: SQLite has already read the other user's file, and copies it into
    the database when the connection closes. The other user may also have renamed that file since.
    So the directory of the file must not be writable by others, sticky or not. Then only this
    user and root can create files there, and one check before the open is enough.

    Above that directory the sticky bit is enough. Each directory and link on the way already
    exists, and belongs to this user or to root.

If an access control list lets another user write, the group bits of the mode show it.
"""

from __future__ import annotations

import errno
import os
import shlex
import stat
from contextlib import suppress
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from collections.abc import Iterator

COMPANIONS = ("-journal", "-wal", "-shm")
"""Suffixes that SQLite appends to the real path of the database for its companion files."""

_IS_POSIX = os.name == "posix"
_EFFECTIVE = os.access in os.supports_effective_ids
_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
_LINKS_LIMIT = 40
"""Maximum number of symbolic links in one path, as on Linux."""
_KINDS = {stat.S_IFDIR: "directory", stat.S_IFLNK: "symbolic link", stat.S_IFIFO: "FIFO"}


class UnfitError(Exception):
    """Error for a file that cannot be used. The message says why, and what to do."""


def prepare(path: str) -> tuple[str, bool]:
    """Check a database file and its directories, and create the file if it is missing.

    Args:
        path: Absolute path.

    Returns:
        The real path, and whether other users can read one of the files.

    Raises:
        UnfitError: Others could read, change or replace a file, or it is not a regular file, or
            this process cannot read and write it. Nothing was written.
        OSError: A directory is missing, or the system refuses.
    """
    real, is_exposed = path, False
    if _IS_POSIX:
        user = os.geteuid()
        real = _real_path(path, user)
        for companion in COMPANIONS:
            with suppress(FileNotFoundError):
                is_exposed |= check_file(real + companion, os.lstat(real + companion), user)
    # Create the file at `path`, not at the real path, so that the target of a broken link is not
    # created. SQLite gives its companion files the mode of this file.
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    status = os.stat(real)
    if _IS_POSIX:
        is_exposed |= check_file(real, status, user)
    else:
        _check_kind(real, status)
    # Without write access, SQLite would leave a companion file that no process can write to.
    if not os.access(real, os.R_OK | os.W_OK, effective_ids=_EFFECTIVE):
        raise UnfitError("this process has no permission to read and write it")
    return real, is_exposed


def make_private(path: str) -> None:
    """Remove the access of other users to a database and its companion files.

    Raises:
        UnfitError: The system refuses.
    """
    for file in (path, *(path + companion for companion in COMPANIONS)):
        try:
            mode = os.lstat(file).st_mode
            if mode & _OTHERS:
                os.chmod(file, stat.S_IMODE(mode) & ~_OTHERS)
        except FileNotFoundError:
            continue
        except PermissionError:
            raise UnfitError(
                f"other users can read {file}, and its mode cannot be changed; delete it"
            ) from None


def set_aside(path: str, mark: bytes) -> str | None:
    """Rename a corrupt database, so that the next request creates a new one.

    Args:
        path: Absolute path.
        mark: Bytes that the file of a store contains.

    Returns:
        The new path. None if the file does not contain the mark, or is gone.
    """
    real = os.path.realpath(path)
    aside = real + ".spoilt"
    with suppress(FileNotFoundError):
        with open(real, "rb") as file:
            if not any(mark in before + block for before, block in _pairs(file)):
                return None
        # Rename the companion files first. Otherwise SQLite would apply an old write-ahead log to
        # the new database.
        for companion in COMPANIONS:
            with suppress(FileNotFoundError):
                os.replace(real + companion, aside + companion)
        os.replace(real, aside)
        return aside
    return None


def _pairs(file: BinaryIO) -> Iterator[tuple[bytes, bytes]]:
    """Yield each block with the one before it, because a mark can extend over two blocks."""
    before = b""
    while block := file.read(65_536):
        yield before, block
        before = block


def check_file(path: str, status: os.stat_result, user: int) -> bool:
    """Check a file with this status, and return whether other users can read or write it.

    Raises:
        UnfitError: It is not a regular file, or does not belong to the user.
    """
    _check_kind(path, status)
    if status.st_uid != user:
        raise UnfitError(
            f"the owner of {path} must be user {user}, got user {status.st_uid}; "
            "delete the file, or use another path"
        )
    return bool(status.st_mode & _OTHERS)


def check_directory(path: str, status: os.stat_result, user: int, *, has_files: bool) -> None:
    """Check a directory, or a link to one, on the way to the files.

    Args:
        path: Path of the directory or link.
        status: What `os.lstat` returned for it.
        user: Effective id of the user of this process.
        has_files: Whether the database and its companion files are in it.

    Raises:
        UnfitError: Other users can replace something in it.
    """
    if status.st_uid not in (0, user):
        owners = f"user {user} or root" if user else "root"
        raise UnfitError(
            f"the owner of {path} must be {owners}, got user {status.st_uid}; "
            "keep the file in a directory of mode 700 elsewhere"
        )
    mode = stat.S_IMODE(status.st_mode)
    # Ubuntu and Fedora create directories with mode 775 for a private group of the user. This
    # group has the id of the user, and no other member.
    is_private_group = status.st_uid == status.st_gid == user
    writers = stat.S_IWOTH if is_private_group else _OTHERS_WRITE
    # The mode of a link has no effect.
    if stat.S_ISLNK(status.st_mode) or not mode & writers:
        return
    is_sticky = bool(mode & stat.S_ISVTX)
    if has_files or not is_sticky:
        advice = (
            "keep the file in a directory of mode 700 below it"
            if is_sticky
            else f"run: chmod go-w {shlex.quote(path)}"
        )
        raise UnfitError(f"{path} must not be writable by other users, got mode {mode:o}; {advice}")


def _check_kind(path: str, status: os.stat_result) -> None:
    kind = stat.S_IFMT(status.st_mode)
    if kind != stat.S_IFREG:
        raise UnfitError(
            f"{path} must be a regular file, got a {_KINDS.get(kind, 'device or socket')}; "
            "delete it, or use another path"
        )


def _real_path(path: str, user: int) -> str:
    """Resolve an absolute path as the system does, and check each directory and link on the way.

    Raises:
        UnfitError: Other users can replace one of them.
        OSError: One of them is missing, or the system refuses.
    """
    real, links = "", 0
    parts = _reversed_parts(path)
    check_directory("/", os.lstat("/"), user, has_files=False)
    while parts:
        part = parts.pop()
        if part == "..":
            real = os.path.dirname(real).rstrip("/")
            continue
        here = f"{real}/{part}"
        try:
            status = os.lstat(here)
        except FileNotFoundError:
            if parts:
                raise
            status = None
        if status is not None and (parts or stat.S_ISLNK(status.st_mode)):
            check_directory(here, status, user, has_files=False)
            if stat.S_ISLNK(status.st_mode):
                links += 1
                if links > _LINKS_LIMIT:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
                target = os.readlink(here)
                real = "" if target.startswith("/") else real
                parts += _reversed_parts(target)
                continue
        real = here
    folder = os.path.dirname(real) or "/"
    check_directory(folder, os.lstat(folder), user, has_files=True)
    return real or "/"


def _reversed_parts(path: str) -> list[str]:
    return [part for part in reversed(path.split("/")) if part not in ("", ".")]
