"""Servers on this machine: files over HTTP, and as much of a hub as a fetch needs.

Both can break a connection in the middle of a file, answer without ranges, and lose files.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, ClassVar
from urllib.parse import unquote, urlsplit

__all__ = ["COMMIT", "HUB_FILES", "Hub", "Web", "serve_hub", "serve_web"]

COMMIT = "0123456789abcdef0123456789abcdef01234567"
HUB_FILES = {
    "data/2022-00.jsonl": b'{"text": "one"}\n',
    "data/2023-00.jsonl": b'{"text": "two"}\n',
    "README.md": b"# not data\n",
}


@dataclass
class Web:
    """What a server gives, and what it was asked."""

    files: dict[str, bytes]
    tags: dict[str, str] = field(default_factory=dict)
    """ETag by name; files without one have none."""
    has_ranges: bool = True
    has_lengths: bool = True
    cuts: int = 0
    """How many answers break off, each after `cut_bytes` of its body."""
    cut_bytes: int = 0
    refused: set[str] = field(default_factory=set)
    seen: list[str] = field(default_factory=list)
    """Method, name and range of each request."""
    address: str = ""

    def gets(self, name: str) -> list[str]:
        """Give the ranges that a file was asked for, "" for all of it."""
        return [line.split(" ", 2)[2] for line in self.seen if line.startswith(f"GET {name} ")]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    web: ClassVar[Web]

    def do_GET(self) -> None:
        self.answer(with_body=True)

    def do_HEAD(self) -> None:
        self.answer(with_body=False)

    def answer(self, *, with_body: bool) -> None:
        name = unquote(urlsplit(self.path).path).lstrip("/")
        self.web.seen.append(f"{self.command} {name} {self.headers.get('Range', '')}")
        if name in self.web.refused:
            self.send(403, {}, b"", with_body=with_body)
        elif name in self.web.files:
            self.send_file(name, self.web.files[name], {}, with_body=with_body)
        elif name.endswith("/") or not name:
            links = [n for n in self.web.files if n.startswith(name)]
            page = "".join(f'<a href="{n.removeprefix(name)}">x</a>' for n in links).encode()
            self.send(200, {"Content-Type": "text/html"}, page, with_body=with_body)
        else:
            self.send(404, {}, b"", with_body=with_body)

    def send_file(
        self, name: str, data: bytes, headers: dict[str, str], *, with_body: bool
    ) -> None:
        web = self.web
        if name in web.tags:
            headers = {**headers, "ETag": f'"{web.tags[name]}"'}
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        status = 200
        if asked and web.has_ranges:
            first, last = int(asked[1]), min(int(asked[2] or len(data)), len(data) - 1)
            headers["Content-Range"] = f"bytes {first}-{last}/{len(data)}"
            status, data = 206, data[first : last + 1]
        cut = with_body and web.cuts > 0 and len(data) > web.cut_bytes
        if cut:
            web.cuts -= 1
        self.send(status, headers, data, with_body=with_body, cut=web.cut_bytes if cut else None)

    def send(
        self,
        status: int,
        headers: dict[str, str],
        body: bytes,
        *,
        with_body: bool,
        cut: int | None = None,
    ) -> None:
        self.send_response(status)
        if self.web.has_lengths or status != 200:
            headers = {**headers, "Content-Length": str(len(body))}
        else:
            headers = {**headers, "Connection": "close"}
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if with_body:
            self.wfile.write(body[:cut])
        if cut is not None:
            self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        """Keep quiet."""


class Hub(_Handler):
    """As much of a hub as a fetch needs: owner/set, one commit, three files."""

    sha256: ClassVar[dict[str, str]] = {}
    """Of files that the hub says are kept outside git; the truth, or not."""

    def answer(self, *, with_body: bool) -> None:
        path = unquote(urlsplit(self.path).path)
        name = path.removeprefix(f"/datasets/owner/set/resolve/{COMMIT}/")
        shown = name if name in self.web.files else path
        self.web.seen.append(f"{self.command} {shown} {self.headers.get('Range', '')}")
        if name in self.web.files:
            headers = {"ETag": f'"{self.blob(name)}"', "X-Repo-Commit": COMMIT}
            self.send_file(name, self.web.files[name], headers, with_body=with_body)
            return
        status, headers, value = self.route(path)
        self.send(status, headers, json.dumps(value).encode(), with_body=with_body)

    def blob(self, name: str) -> str:
        return f"{list(self.web.files).index(name) + 1:040x}"

    def route(self, path: str) -> tuple[int, dict[str, str], Any]:
        for repo, status, code in (
            ("owner/absent", 404, "RepoNotFound"),
            ("owner/gated", 403, "GatedRepo"),
            ("owner/broken", 400, ""),
        ):
            if path.startswith(f"/api/datasets/{repo}"):
                return status, {"X-Error-Code": code} if code else {}, {}
        if path.startswith("/api/datasets/owner/vague/"):
            return 200, {}, {"id": "owner/vague", "siblings": []}
        api = "/api/datasets/owner/set"
        if path in (f"{api}/revision/main", f"{api}/revision/{COMMIT}", api):
            siblings = [{"rfilename": name} for name in self.web.files]
            return 200, {}, {"id": "owner/set", "sha": COMMIT, "siblings": siblings}
        if path.startswith(f"{api}/revision/"):
            return 404, {"X-Error-Code": "RevisionNotFound"}, {}
        if path.startswith(f"{api}/tree/{COMMIT}"):
            return 200, {}, [self.row(name) for name in self.web.files]
        return 404, {"X-Error-Code": "EntryNotFound"}, {}

    def row(self, name: str) -> dict[str, Any]:
        data = self.web.files[name]
        row = {"type": "file", "path": name, "size": len(data), "oid": self.blob(name)}
        if name in self.sha256:
            row["lfs"] = {"oid": self.sha256[name], "size": len(data), "pointerSize": 9}
        return row


@contextmanager
def serve_web(web: Web, kind: type[_Handler] = _Handler) -> Iterator[Web]:
    """Serve until the block ends; `web.address` tells where."""
    handler: type[_Handler] = type("Handler", (kind,), {"web": web})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    web.address = f"http://127.0.0.1:{server.server_port}"
    try:
        yield web
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def serve_hub(files: dict[str, bytes]) -> Iterator[Web]:
    """Serve a hub until the block ends."""
    with serve_web(Web(files), Hub) as web:
        yield web
