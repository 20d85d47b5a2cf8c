"""Files: written whole or not at all; and tables that every program can read."""

import csv
import errno
import io
import os
import shutil
import stat
import tempfile
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePath
from typing import IO, Any

from .errors import InputError

__all__ = [
    "FORMULA",
    "FULL_DISK",
    "as_in_tables",
    "check_folder",
    "csv_text",
    "expanded",
    "libraries_writing",
    "ordinary",
    "remove_leftovers",
    "replacing",
    "replacing_folder",
    "text_in",
    "visible",
    "writing",
]

FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
DISK_ERRORS = (*FULL_DISK, errno.EIO, errno.EROFS)

FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet takes for the beginning of a formula, which may open addresses and start programs."""


def csv_text(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    r"""Lays out a table as CSV.

    Text that a spreadsheet would run as a formula is kept from that: a path begins with ``./`` then, other text with an
    apostrophe. Bytes of a name that are not Unicode are written with backslash escapes.

    Args:
        columns: their names.
        rows: of cells; paths are of a type of :mod:`pathlib`.

    Returns:
        The text, with a line break at its end.

    Example:
        >>> csv_text(["path", "camera"], [(PurePath("=1+1.jpg"), "@hall"), (PurePath("a, b.jpg"), "-1")])
        'path,camera\n./=1+1.jpg,\'@hall\n"a, b.jpg",-1\n'
    """
    text = io.StringIO()
    plain = csv.writer(text, lineterminator="\n")
    # Python before 3.13 leaves a lone carriage return without quotes, and readers end the line at it.
    quoted = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL)
    plain.writerow(columns)
    for row in rows:
        cells = [_cell(value) for value in row]
        writer = quoted if any("\r" in str(cell) for cell in cells) else plain
        writer.writerow(cells)
    return as_in_tables(text.getvalue())


def _cell(value: Any) -> Any:
    if not isinstance(value, (str, PurePath)) or not (text := str(value)).startswith(FORMULA):
        return value
    if isinstance(value, PurePath):
        return f"./{text}"
    return text if _is_number(text) else f"'{text}"


def as_in_tables(text: str) -> str:
    """Gives text as tables can write it: bytes that are no Unicode as backslash escapes."""
    return text.encode("utf-8", "backslashreplace").decode()


def text_in(cell: str) -> str:
    """Gives text as it was before :func:`csv_text` kept a spreadsheet from running it."""
    return cell[1:] if cell.startswith("'") and cell[1:2] in FORMULA else cell


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def expanded(path: str | os.PathLike[str]) -> Path:
    """A path whose ``~`` is the folder of its user, as it stands where nobody knows that user or that folder."""
    return Path(os.path.expanduser(path))


def ordinary(path: str | os.PathLike[str], flags: int) -> int:
    """The ``opener`` of :func:`open` for files of anybody's: opens no pipe or device, whose reading may never end.

    Raises:
        OSError: it is a pipe, a device or a folder, or not there.
    """
    _refuse_endless(os.stat(path), path)
    try:
        opened = os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
    except BlockingIOError:  # a file server waits for another program to let go of it
        opened = os.open(path, flags)
    try:
        _refuse_endless(os.fstat(opened), path)  # it may have become a pipe since
    except OSError:
        os.close(opened)
        raise
    return opened


def _refuse_endless(found: os.stat_result, path: str | os.PathLike[str]) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "no ordinary file", os.fspath(path))


def visible(path: str | os.PathLike[str]) -> str:
    """A path in one line that can do nothing to a terminal: what is not printable is written with backslash escapes."""
    text = os.fspath(path)
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)


@contextmanager
def replacing(
    path: str | os.PathLike[str],
    mode: str = "w",
    consequence: str = "",
    option: str = "data.save_dir",
    is_durable: bool = True,
) -> Iterator[IO[Any]]:
    """Opens a file that takes the place of ``path`` when the context ends well, and never does when it does not.

    It is written beside ``path``, in a folder that is made if need be, brought to the disk and renamed: a reader, a
    full disk or a ``kill`` never sees half of it, and what stood at ``path`` stands until then. What a process that was
    killed has left half written is taken away.

    Args:
        path: the file.
        mode: ``"w"`` for text in UTF-8, with its line breaks as they are, or ``"wb"``.
        consequence: as for :func:`writing`.
        option: as for :func:`writing`.
        is_durable: False spares the wait for the disk, a hundred times that of a small file: one of thousands that are
            made anew where a power failure took them.

    Raises:
        InputError: the operating system refused, or ``path`` is a folder, a device or a pipe.
    """
    path = Path(path)
    text: dict[str, Any] = {} if "b" in mode else {"encoding": "utf-8", "newline": ""}
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with writing(path, consequence, option):
        _refuse_special(path, option)
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(path)
        try:
            with open(temporary, mode, **text) as file:
                yield file
                file.flush()
                if is_durable:
                    os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def replacing_folder(path: str | os.PathLike[str], option: str = "data.save_dir") -> Iterator[Path]:
    """Gives an empty folder beside ``path`` that takes its place when the context ends well, and never when not.

    Args:
        path: the folder; what it held is gone then.
        option: as for :func:`writing`.

    Raises:
        InputError: the operating system refused.
    """
    path = Path(path)
    new, old = (path.with_name(f".{path.name}.{kind}{os.getpid()}.tmp") for kind in ("", "old."))
    with writing(path, option=option):
        if path.is_symlink() or (path.exists() and not path.is_dir()):
            raise InputError(f"cannot write {path}: it is no ordinary folder; set {option} to another place")
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(path)
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir()
        try:
            yield new
            if path.exists():
                os.rename(path, old)
            os.rename(new, path)
        finally:
            for folder in (new, old):
                shutil.rmtree(folder, ignore_errors=True)


def check_folder(folder: str | os.PathLike[str], root: str | os.PathLike[str], option: str = "--out") -> None:
    """Makes the folder of the results, before any work is done for nothing.

    Args:
        folder: where the results will go.
        root: the folder of the images.
        option: the setting that chose the folder.

    Raises:
        InputError: it cannot be written, or lies where its pictures would be taken for images the next time.
    """
    if Path(folder).resolve().is_relative_to(expanded(root).resolve()):
        raise InputError(
            f"{option} {folder} lies in the folder of the images, {root}, where its pictures would be taken for "
            "images the next time: choose a folder elsewhere"
        )
    with writing(folder, option=option):
        Path(folder).mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()


def _refuse_special(path: Path, option: str) -> None:
    if path.exists() and not stat.S_ISREG(path.stat().st_mode):
        raise InputError(f"cannot write {path}: it is no ordinary file; set {option} to another place")


def remove_leftovers(path: Path) -> None:
    """Takes away what processes that are gone began and never finished: ``.NAME.*PROCESS.tmp`` beside a file or folder.

    Args:
        path: the file or folder; of another process that still writes it, nothing is touched.
    """
    for leftover in path.parent.glob(f".{_literal(path.name)}.*.tmp"):
        number = leftover.name.split(".")[-2]
        if number.isdigit() and not Path("/proc", number).exists() and Path("/proc/self").exists():
            if leftover.is_dir():
                shutil.rmtree(leftover, ignore_errors=True)
            else:
                leftover.unlink(missing_ok=True)


def _literal(name: str) -> str:
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in name)


@contextmanager
def writing(path: str | os.PathLike[str], consequence: str = "", option: str = "data.save_dir") -> Iterator[None]:
    """Turns a full disk, a vanished folder or missing rights into one sentence about ``path``.

    Args:
        path: what is being written.
        consequence: what this means for other files, as a clause.
        option: the setting that chooses another folder.

    Raises:
        InputError: the operating system refused.
        OSError: too many files are open, which is no matter of a place.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:
        # torch.save turns an OSError of its file into a RuntimeError.
        cause = error.__context__ if isinstance(error.__context__, OSError) else error
        number = getattr(cause, "errno", None)
        if number in (errno.EMFILE, errno.ENFILE):  # no other folder is a way out
            raise cause from error
        reason = getattr(cause, "strerror", None) or str(cause).splitlines()[0]
        way_out = "raise the limit of a file's size (ulimit -f)" if number == errno.EFBIG else "free some space there"
        raise InputError(
            f"cannot write {path}: {reason}{consequence}; {way_out} or set {option} to a folder that can be written"
        ) from error


@contextmanager
def libraries_writing(folder: str | Path) -> Iterator[None]:
    """The same for what libraries write to a run's folder in their own time, such as TensorBoard's events.

    Raises:
        InputError: the disk is full or broken, or the folder has vanished.
    """
    hook = threading.excepthook
    # TensorBoard's thread hands its error on to the main thread, which says it in a sentence.
    threading.excepthook = lambda thread: None if issubclass(thread.exc_type, OSError) else hook(thread)
    try:
        yield
    except OSError as error:
        is_in_folder = error.filename is not None and os.fsdecode(error.filename).startswith(str(folder))
        if error.errno not in DISK_ERRORS and not is_in_folder:
            raise
        with writing(folder, "; the last checkpoint is as it was"):
            raise
    finally:
        threading.excepthook = hook
