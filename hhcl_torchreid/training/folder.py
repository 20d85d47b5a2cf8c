"""The folder of a run: what its files are called, and whose it is."""

import os
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from .. import distributed
from ..errors import InputError
from ..files import ordinary, replacing, writing

__all__ = ["RunFolder"]

LONGEST_OWNER = 300  # characters


class RunFolder:
    """Every file of a run.

    Args:
        path: ``data.save_dir``.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.configuration = self.path / "config.yaml"
        self.metrics = self.path / "metrics.csv"
        self.labels = self.path / "labels.csv"
        self.left_out = self.path / "left_out.csv"
        self.curves = self.path / "curves.png"
        self.clusters = self.path / "clusters.png"
        self.identities = self.path / "identities"
        self.last_checkpoint = self.path / "model" / "model-last.pth.tar"
        self.best_checkpoint = self.path / "model" / "model-best.pth.tar"
        self._lock = self.path / ".lock"
        self._owner = self.path / ".owner"

    def __str__(self) -> str:
        return str(self.path)

    def rankings(self, dataset: str) -> Path:
        """The sheet of ranking pictures of a test set."""
        return self.path / f"rankings_{dataset}.png"

    def visrank(self, dataset: str) -> Path:
        """The folder that torchreid writes a ranking picture per query to."""
        return self.path / f"visrank_{dataset}"

    def _prepare(self) -> None:
        with writing(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=self.path).close()

    def log(self, test_only: bool) -> Path:
        """The file that what is printed from now on goes to, under torchreid's name for it."""
        name = "test.log" if test_only else "train.log"
        return self.path / f"{name}{time.strftime('-%Y-%m-%d-%H-%M-%S')}"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Makes the folder and keeps other runs out as long as the context lasts; one that was killed keeps nobody out.

        The main process does that for all of a run. One run may nest it.

        Raises:
            InputError: another run writes here, or the folder cannot be written.
        """
        distributed.from_main(self._prepare)
        if not distributed.is_main():
            yield
            return
        lock = FileLock(self._lock, timeout=0, is_singleton=True)
        with writing(self._lock):  # not every disk locks files
            try:
                lock.acquire()
            except Timeout:
                raise InputError(
                    f"{self.path} is in use by another run ({self._read_owner()}): wait for its end, or set "
                    "data.save_dir to another folder"
                ) from None
        try:
            with replacing(self._owner, is_durable=False) as owner:
                owner.write(f"process {os.getpid()} on {socket.gethostname()}")
            yield
        finally:
            lock.release()

    def _read_owner(self) -> str:
        try:
            with open(self._owner, encoding="utf-8", errors="replace", opener=ordinary) as file:
                return file.read(LONGEST_OWNER)
        except OSError:
            return "its process is not known"
