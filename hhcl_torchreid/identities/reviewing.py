"""The page of identities from a server on one's own machine, which keeps every answer in the folder of the results."""

import hmac
import io
import mimetypes
import os
import secrets
import threading
import urllib.parse
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from ..data.corrections import (
    CORRECTIONS,
    Correction,
    corrections_in,
    latest,
    on_paths,
    read_corrections,
    table_of_corrections,
    write_corrections,
)
from ..errors import InputError
from ..files import as_in_tables, ordinary
from .page import DATA, page_script, read_page

__all__ = ["ReviewServer"]

LOOPBACK = "127.0.0.1"
LARGEST_TABLE = 32 << 20
"""Bytes of answers that are taken."""
PATIENCE = 30
"""Seconds that a browser may take over a request."""
HEADERS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",  # the address holds the token
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class _Result:
    """What the page of a folder shows, and the answers that the folder keeps."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.data = folder, read_page(folder)
        self.paths: list[str] = self.data["path"]
        self.known = frozenset(self.paths)
        respected = [
            Correction(answer, self._cell(image), self._cell(other), name)
            for answer, image, other, name in self.data["answers"]
        ]
        kept = read_corrections(folder / CORRECTIONS) if os.path.lexists(folder / CORRECTIONS) else []
        shown = {self._cell(place) for place in range(-1, len(self.paths))}
        elsewhere = [row for row in kept if not {row.path, row.other} <= shown]
        self.before = [*elsewhere, *respected]
        self.given = [row for row in kept if row not in elsewhere and row._replace(row="") not in respected]

    @property
    def script(self) -> str:
        """The data of the page, as a server gives them."""
        served = {"images": "images", "isServed": True, "given": table_of_corrections(self.given)}
        return page_script(self.data | served)

    def file(self, path: str) -> Path | None:
        """The file of an address below the page's; None where the page has no such file."""
        if path.startswith("images/"):
            image = path.removeprefix("images/")
            return self._root / image if image in self.known else None
        found = (self.folder / (path or "index.html")).resolve()
        place = self.folder.resolve()
        is_page = found == place / "index.html" or found.is_relative_to(place / "page")
        return found if is_page and found.is_file() else None

    def _cell(self, image: int) -> str:
        """The path of an image as tables have it; empty for none."""
        return as_in_tables(self.paths[image]) if image >= 0 else ""

    @property
    def _root(self) -> Path:
        """The folder of the images."""
        address: str = self.data["images"]
        if address.startswith("file:"):  # on another drive
            return Path(urllib.request.url2pathname(urllib.parse.urlsplit(address).path))
        return self.folder / os.fsdecode(urllib.parse.unquote_to_bytes(address))

    def save(self, table: bytes) -> None:
        """Puts the answers of the page in the place of those that it gave before."""
        try:
            text = table.decode("utf-8")
        except UnicodeDecodeError as error:
            raise InputError("the answers are not in UTF-8: reload the page") from error
        given = corrections_in(io.StringIO(text, newline=""), "the page")
        on_paths(given, self.paths, os.devnull)
        write_corrections(self.folder / CORRECTIONS, latest([*self.before, *given]))
        self.given = given


class ReviewServer(ThreadingHTTPServer):
    """Serves the page of a folder, to whoever on this machine knows its address, and keeps the page's answers there.

    Nothing but the page, its thumbnails and the images that it shows is given out.

    Args:
        folder: of the results.
        port: 0 takes a free one.

    Attributes:
        address: of the page; it holds a token that is another one each time.
        result: as the page was opened last.
        saving: held while answers are written.

    Raises:
        InputError: there is no page in the folder, or the port is taken.
    """

    daemon_threads = True

    def __init__(self, folder: str | os.PathLike[str], port: int = 0) -> None:
        self.token = secrets.token_urlsafe()
        self.saving = threading.Lock()
        self.result = _Result(Path(folder))
        try:
            super().__init__((LOOPBACK, port), _Request)
        except (OSError, OverflowError) as error:
            raise InputError(
                f"cannot serve at port {port} ({error}): set --port to another, or leave it out"
            ) from error
        self.hosts = [f"{name}:{self.server_port}" for name in (LOOPBACK, "localhost")]
        self.address = f"http://{self.hosts[0]}/{self.token}/"

    def opened(self) -> str:
        """Looks at the folder anew, whose images may have been assigned again; gives the data of the page."""
        with self.saving:
            self.result = _Result(self.result.folder)
            return self.result.script

    def save(self, table: bytes, result: str) -> None:
        """Keeps answers that were given about a result."""
        with self.saving:
            if result != self.result.data["id"]:
                raise InputError("these images were assigned again since: reload the page")
            self.result.save(table)

    def server_close(self) -> None:
        """Ends when what is being written is written."""
        with self.saving:
            super().server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that has gone away is no news."""


class _Request(BaseHTTPRequestHandler):
    server: ReviewServer
    timeout = PATIENCE
    server_version, sys_version = "hhcl", ""

    def do_GET(self) -> None:
        path = self._path()
        if path is None:
            return self._answer(403, "this is not the address that hhcl review has printed")
        try:
            if path == DATA:
                return self._send(200, self.server.opened().encode("ascii"), "text/javascript")
            file = self.server.result.file(path)
            content = None
            if file:
                with open(file, "rb", opener=ordinary) as opened:
                    content = opened.read()
        except (OSError, ValueError, InputError) as error:  # a name with a zero in it is a ValueError
            return self._answer(404, str(error))
        if file is None or content is None:
            return self._answer(404, "the page has no such file")
        return self._send(200, content, mimetypes.guess_type(file.name)[0] or "application/octet-stream")

    def do_POST(self) -> None:
        path = self._path()
        if path != CORRECTIONS:
            return self._answer(403, "this is not the address that hhcl review has printed")
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal():
            return self._answer(411, "say how long the answers are")
        if int(length) > LARGEST_TABLE:
            return self._answer(413, f"the answers are longer than {LARGEST_TABLE} bytes")
        try:
            query = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)
            self.server.save(self.rfile.read(int(length)), query.get("id", [""])[0])
        except InputError as error:
            return self._answer(409, str(error))
        return self._answer(200, "saved")

    def _path(self) -> str | None:
        """What is asked for, below the page's address; None for whoever does not know that."""
        _, token, *rest = os.fsdecode(urllib.parse.unquote_to_bytes(urllib.parse.urlsplit(self.path).path)).split(
            "/", 2
        )
        is_ours = hmac.compare_digest(os.fsencode(token), self.server.token.encode("ascii"))
        # Another name for this machine is another site's, that would read the page in somebody's browser.
        return rest[0] if rest and is_ours and self.headers.get("Host") in self.server.hosts else None

    def _answer(self, code: int, text: str) -> None:
        self._send(code, f"{text}\n".encode("utf-8", "backslashreplace"), "text/plain; charset=utf-8")

    def _send(self, code: int, content: bytes, kind: str) -> None:
        self.send_response(code)
        for name, value in {**HEADERS, "Content-Type": kind, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""
