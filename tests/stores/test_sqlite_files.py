"""Tests of the files that `SQLiteStore` rejects because other users can change or replace them."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trio
from hypothesis import example, given
from hypothesis import strategies as st

from tests.stores.kit import kept
from tests.stores.places import PATIENCE
from tests.stores.sqlite_kit import METHODS, mode_of, opened, snapshot
from trio_anon_session.stores import SQLiteStore, StoredToken, StoreError, _files

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.skipif(os.name != "posix", reason="Windows has no modes and user ids")

OTHER = 12345
PARTS = ["", "-wal", "-shm", "-journal"]
needs_root = pytest.mark.skipif(
    os.geteuid() != 0, reason="only root can give files to another user"
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path of a file that does not exist yet, in a directory of its own."""
    folder = tmp_path / "above" / "folder"
    folder.mkdir(0o700, parents=True)
    return folder / "tokens.db"


@pytest.fixture(params=["fresh", "in use"])
async def place(path: Path, request: pytest.FixtureRequest) -> Path:
    """Return the path of a file that does not exist yet, or of one that has a token."""
    if request.param == "in use":
        await kept(SQLiteStore(path))
    return path


async def assert_refused(path: Path, said: str, *, below: Path | None = None) -> None:
    """Assert that each method raises a StoreError with this text, and changes no file."""
    before = snapshot(below or path.parent.parent)
    for method in METHODS.values():
        with pytest.raises(StoreError) as caught, trio.fail_after(PATIENCE):
            await method(SQLiteStore(path))
        assert said in str(caught.value)
        assert str(caught.value).startswith(f"{path}: ")
    assert snapshot(below or path.parent.parent) == before


# Types


def make_file(file: Path) -> None:
    file.touch()
    file.chmod(0o600)


def make_fifo(file: Path) -> None:
    os.mkfifo(file, 0o600)


def make_link(file: Path) -> None:
    target = file.with_name("target")
    make_file(target)
    file.symlink_to(target)


def make_broken_link(file: Path) -> None:
    file.symlink_to(file.with_name("target"))


KINDS: list[tuple[Callable[[Path], None], str]] = [
    (Path.mkdir, "directory"),
    (make_fifo, "FIFO"),
    (make_link, "symbolic link"),
    (make_broken_link, "symbolic link"),
]
WRONG_KINDS = [
    pytest.param(part, make, kind, id=f"{make.__name__}{part}")
    for part in PARTS
    for make, kind in KINDS
    # The store follows a link to the database.
    if part or kind != "symbolic link"
]


@pytest.mark.parametrize(("part", "make", "kind"), WRONG_KINDS)
async def test_a_file_of_the_wrong_kind(
    place: Path, part: str, make: Callable[[Path], None], kind: str
) -> None:
    """Only a regular file is used; anything else is refused without opening it."""
    file = Path(f"{place}{part}")
    with suppress(FileNotFoundError):
        os.unlink(file)
    make(file)
    await assert_refused(place, f"{file} must be a regular file, got a {kind}; delete it, or use")


# Owners


@pytest.fixture(params=["real", "as reported"])
def give(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return a function that gives a file to another user, or makes the system report that.

    Only root can do the former.
    """
    if request.param == "real":
        if os.geteuid() != 0:
            pytest.skip("only root can give files to another user")
        return lambda file, user=OTHER: os.chown(file, user, user, follow_symlinks=False)
    owners: dict[str, int] = {}

    def reporting(ask: Callable[..., os.stat_result]) -> Callable[..., os.stat_result]:
        def report(file: Any, *args: Any, **kwargs: Any) -> os.stat_result:
            status = ask(file, *args, **kwargs)
            user = owners.get(os.fspath(file)) if isinstance(file, str | Path) else None
            return status if user is None else with_owner(status, user)

        return report

    monkeypatch.setattr(os, "stat", reporting(os.stat))
    monkeypatch.setattr(os, "lstat", reporting(os.lstat))
    return lambda file, user=OTHER: owners.update({str(file): user})


def with_owner(status: os.stat_result, user: int) -> os.stat_result:
    values = list(status)
    values[stat.ST_UID] = user
    return os.stat_result(values)


@pytest.mark.parametrize("part", PARTS)
async def test_a_file_of_another_user(place: Path, part: str, give: Callable[..., None]) -> None:
    """A file of another user is refused."""
    file = Path(f"{place}{part}")
    make_file(file)
    give(file)
    said = f"the owner of {file} must be user {os.geteuid()}, got user {OTHER}; delete the file, or"
    await assert_refused(place, said)


@pytest.mark.parametrize("above", [0, 1])
async def test_a_directory_of_another_user(
    place: Path, above: int, give: Callable[..., None]
) -> None:
    """The directory of the file and the one above it must belong to this user or to root."""
    folder = place.parents[above]
    give(folder)
    owners = f"user {os.geteuid()} or root" if os.geteuid() else "root"
    said = f"the owner of {folder} must be {owners}, got user {OTHER}; keep the file in a directory"
    await assert_refused(place, said)


async def test_a_link_of_another_user(
    place: Path, tmp_path: Path, give: Callable[..., None]
) -> None:
    """A link of another user is refused, although it leads to a file of this user."""
    link = tmp_path / "link"
    link.symlink_to(place)
    give(link)
    await assert_refused(link, f"the owner of {link} must be ", below=tmp_path)


users = st.sampled_from([0, 1000, OTHER])
statuses = st.builds(
    lambda kind, mode, user, group: os.stat_result((kind | mode, 0, 0, 1, user, group, 0, 0, 0, 0)),
    st.sampled_from([stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK, stat.S_IFIFO, stat.S_IFSOCK]),
    st.integers(0, 0o7777),
    users,
    users,
)


def refusal_of(check: Callable[[], object]) -> str | None:
    try:
        check()
    except _files.UnfitError as error:
        return str(error)
    return None


# A file of root does not belong to this user.
@example(status=os.stat_result((stat.S_IFREG | 0o600, *[0] * 9)), user=OTHER)
@given(status=statuses, user=users)
def test_every_file(status: os.stat_result, user: int) -> None:
    """A regular file of this user is used; it counts as exposed if others have any right."""
    said = refusal_of(lambda: _files.check_file("/a/file", status, user))
    is_regular = stat.filemode(status.st_mode)[0] == "-"
    assert (said is None) == (is_regular and status.st_uid == user)
    if said is None:
        is_exposed = stat.filemode(status.st_mode)[4:] not in (
            "------",
            "--S---",
            "-----T",
            "--S--T",
        )
        assert _files.check_file("/a/file", status, user) == is_exposed
    else:
        assert "/a/file" in said


@given(status=statuses, user=users, has_files=st.booleans())
def test_every_directory(status: os.stat_result, user: int, has_files: bool) -> None:
    """A directory is used if only this user and root can replace the files or links in it."""
    said = refusal_of(
        lambda: _files.check_directory("/a/folder", status, user, has_files=has_files)
    )
    shown = stat.filemode(status.st_mode)
    is_private_group = status.st_gid == status.st_uid == user
    others_write = shown[0] != "l" and "w" in (shown[8], "-" if is_private_group else shown[5])
    is_safe = not others_write or (shown[9] in "tT" and not has_files)
    assert (said is None) == (status.st_uid in (0, user) and is_safe)
    assert said is None or "/a/folder" in said


# Directories


def give_to_a_group(folder: Path) -> None:
    """Give a folder to a group that may have other users."""
    if os.geteuid() == 0:
        os.chown(folder, -1, OTHER)
    elif folder.stat().st_gid == os.geteuid():
        pytest.skip("only root can give a folder to another group")


@pytest.mark.parametrize("mode", [0o720, 0o702, 0o2775, 0o1777])
async def test_a_directory_in_which_others_write(place: Path, mode: int) -> None:
    """A directory that others can write is refused, sticky or not, before a file is created."""
    give_to_a_group(place.parent)
    os.chmod(place.parent, mode)
    advice = f"run: chmod go-w {place.parent}" if mode < 0o1000 or mode == 0o2775 else "keep the"
    said = f"{place.parent} must not be writable by other users, got mode {mode:o}; {advice}"
    await assert_refused(place, said)


@pytest.mark.parametrize("mode", [0o720, 0o702])
async def test_a_directory_above_in_which_others_write(place: Path, mode: int) -> None:
    """A directory above the file's directory is refused if others can write it."""
    above = place.parent.parent
    give_to_a_group(above)
    os.chmod(above, mode)
    said = (
        f"{above} must not be writable by other users, got mode {mode:o}; run: chmod go-w {above}"
    )
    await assert_refused(place, said)


@pytest.mark.parametrize(
    ("above", "mode"),
    [
        *((0o700, 0o700), (0o700, 0o755), (0o755, 0o1755)),
        # A parent of the file's directory may be sticky, such as /tmp.
        (0o1777, 0o700),
        # The user's private group may write, as with a umask of 002.
        pytest.param(
            0o770,
            0o2775,
            marks=pytest.mark.skipif(os.getegid() != os.geteuid(), reason="no group of its own"),
        ),
    ],
)
async def test_directories_that_are_used(place: Path, above: int, mode: int) -> None:
    """Directories are used if others can only read them, or if writing is safe.

    Writing is safe in a sticky parent directory, and for the user's private group.
    """
    os.chmod(place.parent.parent, above)
    os.chmod(place.parent, mode)
    await kept(SQLiteStore(place))


def test_advice_that_can_be_pasted() -> None:
    """The path in the command of the advice is quoted for a shell."""
    status = os.stat_result((stat.S_IFDIR | 0o777, 0, 0, 1, 0, 0, 0, 0, 0, 0))
    with pytest.raises(_files.UnfitError, match=r"run: chmod go-w '/a b'$"):
        _files.check_directory("/a b", status, 0, has_files=True)


@contextmanager
def as_user(user: int) -> Iterator[None]:
    """Run the block as another user, without root's groups."""
    groups, group = os.getgroups(), os.getegid()
    os.setgroups([])
    os.setegid(user)
    os.seteuid(user)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(group)
        os.setgroups(groups)


@pytest.fixture
def reachable() -> Iterator[Path]:
    """Return a directory of root that every user can search, unlike those of pytest."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@needs_root
@pytest.mark.parametrize("sticky", [0, stat.S_ISVTX])
@pytest.mark.parametrize("above", [0o755, 0o777])
@pytest.mark.parametrize("mode", [0o700, 0o755, 0o757, 0o773, 0o775])
async def test_what_another_user_can_do(
    reachable: Path, mode: int, above: int, sticky: int
) -> None:
    """If the store works, another user can neither add, rename nor delete a file."""
    path = reachable / "above" / "folder" / "tokens.db"
    os.makedirs(path.parent)
    os.chmod(path.parent, mode | sticky)
    os.chmod(path.parent.parent, above | sticky)
    try:
        await kept(SQLiteStore(path))
    except StoreError:
        works = False
    else:
        works = True
    with as_user(OTHER):
        done = [
            succeeds(lambda: os.open(f"{path}-wal", os.O_CREAT | os.O_RDWR, 0o666)),
            succeeds(lambda: os.rename(path, f"{path}.old")),
            succeeds(lambda: os.unlink(path)),
            succeeds(lambda: os.rename(path.parent, f"{path.parent}.old")),
        ]
    assert not (works and any(done))
    # The group is root's private group.
    assert works == (not mode & 0o002 and not (above & 0o002 and not sticky))


def succeeds(attempt: Callable[[], object]) -> bool:
    with suppress(PermissionError, FileNotFoundError):
        result = attempt()
        if isinstance(result, int):
            os.close(result)
        return True
    return False


# Links


async def test_links_are_followed(place: Path, tmp_path: Path) -> None:
    """Through links, the store uses and checks the real file, its directory and its log."""
    links = tmp_path / "links"
    links.mkdir(0o700)
    (links / "folder").symlink_to(".././links/../above//folder", target_is_directory=True)
    (links / "file").symlink_to(f"folder/{place.name}")
    make_file(place)
    await kept(SQLiteStore(links / "file"))
    assert (await SQLiteStore(place).look("name")).token is not None
    with opened(place) as connection:
        connection.execute("SELECT * FROM trio_anon_session").fetchall()
        # SQLite gives an empty log the mode of the file.
        os.chmod(place, 0o644)
        os.chmod(f"{place}-wal", 0o644)
        await SQLiteStore(links / "file").look("name")
        assert mode_of(Path(f"{place}-wal")) == 0o600
    os.mkfifo(f"{place}-wal")
    said = f"{place}-wal must be a regular file"
    await assert_refused(links / "file", said, below=tmp_path)
    os.unlink(f"{place}-wal")
    os.chmod(place.parent, 0o1777)
    said = f"{place.parent} must not be writable"
    await assert_refused(links / "file", said, below=tmp_path)


@pytest.mark.parametrize("which", ["first", "second"])
async def test_a_link_that_others_can_replace(place: Path, tmp_path: Path, which: str) -> None:
    """Each directory of a link is checked: a user that can write there can replace the link."""
    for name in ("first", "second"):
        (tmp_path / name).mkdir(0o700)
    first, second = tmp_path / "first" / "link", tmp_path / "second" / "link"
    first.symlink_to(second)
    second.symlink_to(place)
    make_file(place)
    folder = tmp_path / which
    os.chmod(folder, 0o777)
    await assert_refused(first, f"{folder} must not be writable by other users", below=tmp_path)
    # In a sticky directory, other users cannot replace a link of this user.
    os.chmod(folder, 0o1777)
    await kept(SQLiteStore(first))


names = st.sampled_from(["a", "b", "c"])
targets = st.lists(
    st.one_of(names, st.sampled_from(["..", ".", "", "/ROOT"])), min_size=1, max_size=4
).map("/".join)
entries = st.dictionaries(
    names, st.one_of(st.none(), st.just("file"), st.tuples(targets)), max_size=3
)


@given(
    tree=st.dictionaries(st.sampled_from(["", "a", "a/b", "b"]), entries, max_size=4),
    path=st.lists(names, min_size=1, max_size=4).map("/".join),
)
@example(tree={"": {"a": ("a",)}}, path="a")
@example(tree={"": {"a": ("a",)}}, path="a/b")
@example(tree={"": {"a": "file"}}, path="a/b")
@example(tree={"": {"a": None, "b": ("a/../c",), "c": "file"}}, path="b")
def test_every_path(tree: dict[str, dict[str, Any]], path: str) -> None:
    """The store resolves any path with links like the operating system."""
    with tempfile.TemporaryDirectory() as folder:
        root = os.path.realpath(folder)
        for parent, children in tree.items():
            for name, what in children.items():
                here = os.path.join(root, parent, name)
                with suppress(OSError):
                    if what is None:
                        os.mkdir(here, 0o700)
                    elif what == "file":
                        Path(here).touch(0o600)
                    else:
                        target = what[0].replace("/ROOT", root)
                        os.symlink(target or ".", here)
        given = f"{root}/{path}"
        try:
            expected = os.path.realpath(given, strict=True)
        except FileNotFoundError:
            # The path may name the new file.
            return
        except OSError as error:
            with pytest.raises(type(error)):
                _files._real_path(given, os.geteuid())
            return
        # A link may lead out of the folder by "..".
        if expected.startswith(f"{root}/"):
            assert _files._real_path(given, os.geteuid()) == expected


def test_a_path_that_leads_nowhere(tmp_path: Path) -> None:
    """A missing directory, also in the target of a link, is an error; a missing file is not."""
    (tmp_path / "file").touch()
    (tmp_path / "through").symlink_to("missing/../file")
    for name in ("missing/tokens.db", "through"):
        with pytest.raises(FileNotFoundError):
            _files._real_path(str(tmp_path / name), os.geteuid())
    assert _files._real_path("/", os.geteuid()) == "/"
    assert _files._real_path(f"//{tmp_path}/new", os.geteuid()) == f"{tmp_path.resolve()}/new"


# Modes of the user's files


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
@pytest.mark.parametrize("part", PARTS[:3])
async def test_a_part_that_others_can_read(path: Path, part: str, mode: int) -> None:
    """The database, its log and its index are made private if others can read one of them."""
    await kept(SQLiteStore(path))
    file = Path(f"{path}{part}")
    with opened(path) as connection:
        connection.execute("SELECT * FROM trio_anon_session").fetchall()
        os.chmod(file, mode)
        await kept(SQLiteStore(path), token=StoredToken("new", "new", 3600.0, 0.0))
        assert {mode_of(each) for each in path.parent.iterdir()} == {0o600}


async def test_a_journal_that_others_can_read(path: Path) -> None:
    """A journal that others can read is made private."""
    await kept(SQLiteStore(path))
    journal = Path(f"{path}-journal")
    with opened(path) as connection:
        connection.execute("PRAGMA journal_mode = PERSIST")
        connection.execute("UPDATE trio_anon_session SET name = name")
    os.chmod(journal, 0o644)
    # Only read: a change would delete the journal.
    assert (await SQLiteStore(path).look("name")).token is not None
    assert mode_of(journal) == 0o600


async def test_modes_mean_nothing_on_windows(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without POSIX, owners and modes are not checked, but the file type is."""
    monkeypatch.setattr(_files, "_IS_POSIX", False)
    monkeypatch.setattr(os, "geteuid", None)
    os.chmod(place.parent, 0o777)
    await kept(SQLiteStore(place))
    with suppress(FileNotFoundError):
        os.unlink(place)
    os.mkfifo(place)
    await assert_refused(place, f"{place} must be a regular file, got a FIFO")
