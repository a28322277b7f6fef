"""A hub on loopback: it speaks what huggingface-hub asks of a hub over HTTP, and fails as it is told to.

Files over `small_bytes` are large ones, as on a hub: asking for them leads to another address (the storage), and what
they are stands in the headers of the hub's own answer.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

COMMIT = "0123456789abcdef0123456789abcdef01234567"
PIECE = 1 << 16


@dataclass(frozen=True)
class Asked:
    """One request as the server saw it; `host` is the name by which it was called."""

    method: str
    path: str
    host: str
    range: str | None
    authorization: str | None
    user_agent: str


@dataclass
class Hub:
    """What the hub has, how it fails, and what it was asked."""

    files: dict[str, bytes] = field(default_factory=dict)
    """By ORG/REPO/FILE."""
    revisions: dict[str, str] = field(default_factory=lambda: {"main": COMMIT})
    small_bytes: int = 1 << 12
    asked: list[Asked] = field(default_factory=list)
    port: int = 0

    # faults
    refuse: dict[str, tuple[int, str | None]] = field(default_factory=dict)
    """By ORG/REPO: a status, and what stands in X-Error-Code."""
    token: str | None = None
    """Without it every repository is one of somebody else."""
    status_of_storage: int | None = None
    cut_after_bytes: int | None = None
    """Of one answer with a file's bytes: then the line breaks, on every answer, as long as this is set."""
    cuts_left: int = -1
    """How many answers are cut; -1 for all."""
    instead: Callable[[bytes], bytes] | None = None
    """What is sent in place of a file's bytes, and said to be its length."""
    pause_s: float = 0
    """Between two pieces of a file."""
    ranges: bool = True
    commit_header: str | None = None
    """In place of the commit."""
    silent_s: float = 0
    """Before every answer."""
    during: Callable[[int], object] | None = None
    """Called with how many bytes of a file were sent, before each piece."""

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def begin_again(self) -> None:
        """Forgets files, faults and requests."""
        vars(self).update(vars(Hub(port=self.port)))

    def put(self, name: str, data: bytes) -> str:
        """Keeps a file; its sha256."""
        self.files[name] = data
        return hashlib.sha256(data).hexdigest()

    def gets(self) -> list[Asked]:
        """The requests for a file's bytes that reached the storage."""
        return [one for one in self.asked if one.method == "GET" and one.path.startswith("/storage/")]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's own name
        del format, args

    def _answer(self) -> None:
        self.hub.asked.append(
            Asked(
                self.command,
                self.path,
                self.headers.get("Host", ""),
                self.headers.get("Range"),
                self.headers.get("Authorization"),
                self.headers.get("User-Agent", ""),
            )
        )
        time.sleep(self.hub.silent_s)
        parts = unquote(urlsplit(self.path).path).strip("/").split("/")
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            if parts[0] == "storage":
                self._storage("/".join(parts[1:]))
            elif parts[:2] == ["api", "models"] and len(parts) >= 4:
                revision = "/".join(parts[5:]) if parts[4:5] == ["revision"] else "main"
                self._info("/".join(parts[2:4]), revision)
            elif "resolve" in parts[2:3]:
                path = urlsplit(self.path).path.strip("/").split("/")  # a slash of the revision is quoted
                self._resolve("/".join(path[:2]), unquote(path[3]), unquote("/".join(path[4:])))
            else:
                self._refuse(404, None)

    def _refuse(self, status: int, code: str | None) -> None:
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
            self.send_header("X-Error-Message", "told by the hub")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _allowed(self, repo: str, revision: str) -> str | None:
        """The commit, where this person may know it; else the refusal is sent."""
        if repo in self.hub.refuse:
            self._refuse(*self.hub.refuse[repo])
            return None
        private = self.hub.token and self.headers.get("Authorization") != f"Bearer {self.hub.token}"
        if private or not any(name.startswith(f"{repo}/") for name in self.hub.files):
            self._refuse(401, "RepoNotFound")
            return None
        commit = self.hub.revisions.get(revision, revision if revision in self.hub.revisions.values() else None)
        if commit is None:
            self._refuse(404, "RevisionNotFound")
        return commit

    def _info(self, repo: str, revision: str) -> None:
        commit = self._allowed(repo, revision)
        if commit is None:
            return
        names = [name.removeprefix(f"{repo}/") for name in self.hub.files if name.startswith(f"{repo}/")]
        body = json.dumps({"id": repo, "sha": commit, "siblings": [{"rfilename": name} for name in names]}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _resolve(self, repo: str, revision: str, file: str) -> None:
        commit = self._allowed(repo, revision)
        if commit is None:
            return
        data = self.hub.files.get(f"{repo}/{file}")
        if data is None:
            self._refuse(404, "EntryNotFound")
            return
        commit = self.hub.commit_header or commit
        if len(data) <= self.hub.small_bytes:
            git = hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
            self._send(data, {"X-Repo-Commit": commit, "ETag": f'"{git}"'})
            return
        self.send_response(302)
        self.send_header("X-Repo-Commit", commit)
        self.send_header("X-Linked-Etag", f'"{hashlib.sha256(data).hexdigest()}"')
        self.send_header("X-Linked-Size", str(len(data)))
        # the same server by another name: a token must not follow there
        self.send_header("Location", f"http://localhost:{self.hub.port}/storage/{repo}/{file}")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _storage(self, name: str) -> None:
        if self.hub.status_of_storage is not None:
            self._refuse(self.hub.status_of_storage, None)
            return
        data = self.hub.files[name]
        self._send(self.hub.instead(data) if self.hub.instead else data, {"ETag": '"of the storage"'})

    def _send(self, data: bytes, headers: dict[str, str]) -> None:
        start = 0
        wanted = self.headers.get("Range")
        if wanted and self.hub.ranges:
            start = int(wanted.removeprefix("bytes=").partition("-")[0])
            if start >= len(data):
                self.send_response(416)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        else:
            self.send_response(200)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        if self.command == "HEAD":
            return
        cut = self.hub.cut_after_bytes if self.hub.cuts_left else None
        end = len(data) if cut is None else min(len(data), start + cut)
        for at in range(start, end, PIECE):
            if self.hub.during:
                self.hub.during(at - start)
            self.wfile.write(data[at : min(at + PIECE, end)])
            time.sleep(self.hub.pause_s)
        if cut is not None and end < len(data):
            self.hub.cuts_left -= 1
            self.wfile.flush()
            self.close_connection = True


@contextlib.contextmanager
def serving(port: int = 0) -> Iterator[Hub]:
    """A hub that answers until the end of the block."""
    hub = Hub()
    handler = type("Handler", (_Handler,), {"hub": hub})
    with ThreadingHTTPServer(("127.0.0.1", port), handler) as server:
        server.daemon_threads = True
        hub.port = server.server_port
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield hub
        finally:
            server.shutdown()
            thread.join()
