"""A local stand-in of the Hub: the parts of its HTTP interface that huggingface_hub asks for, with a log."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

LARGE = (".safetensors", ".bin", ".gguf")
"""Files that the Hub keeps by their SHA-256, and serves from elsewhere."""


@dataclass
class StandinHub:
    """Serves folders as models. log: (method, what) of every request that came.

    refuse: file → status it is answered with. cut: files that end in the middle; wrong: files whose last byte
    is another. gated: models that are given to nobody. watched: a folder whose shards are counted whenever
    one more is asked for; together: those counts, the one that is coming among them. stops_at: a shard that
    is begun and never sent; stopped: set once that has happened.
    """

    models: dict[str, Path] = field(default_factory=dict)
    log: list[tuple[str, str]] = field(default_factory=list)
    refuse: dict[str, int] = field(default_factory=dict)
    cut: set[str] = field(default_factory=set)
    wrong: set[str] = field(default_factory=set)
    gated: set[str] = field(default_factory=set)
    watched: Path | None = None
    together: list[int] = field(default_factory=list)
    stops_at: str = ""
    stopped: threading.Event = field(default_factory=threading.Event)
    url: str = ""
    running: ExitStack = field(default_factory=ExitStack)

    def stop(self) -> None:
        """From now on nobody answers."""
        self.running.close()

    def fetched(self) -> list[str]:
        """The shards that were sent whole, in order."""
        return [
            what for method, what in self.log if method == "GET" and what.endswith((".safetensors", ".gguf"))
        ]

    def commit(self, model: str) -> str:
        """Of a model, as long as no file of it changes."""
        return hashlib.sha1("".join(_digests(self.models[model])).encode()).hexdigest()

    @contextmanager
    def serving(self) -> Iterator[StandinHub]:
        """Answers on a free port of this machine while the body runs."""
        hub = self

        class Handler(_Handler):
            of = hub

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        self.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        with ExitStack() as self.running:
            self.running.callback(thread.join)
            self.running.callback(server.server_close)
            self.running.callback(server.shutdown)
            yield self


class _Handler(BaseHTTPRequestHandler):
    of: StandinHub

    def do_HEAD(self) -> None:
        self._answer("HEAD")

    def do_GET(self) -> None:
        self._answer("GET")

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def _answer(self, method: str) -> None:
        path = unquote(urlsplit(self.path).path)
        asked = re.fullmatch(r"/api/models/(.+?)/(revision|tree)/([^/]+)", path)
        file = re.fullmatch(r"/(.+)/resolve/([^/]+)/(.+)", path)
        large = re.fullmatch(r"/elsewhere/([^/]+/[^/]+)/(.+)", path)
        model = next((m.group(1) for m in (asked, file, large) if m), "")
        if model in self.of.gated:
            self._refuse(method, path, 403, "GatedRepo")
        elif model not in self.of.models:
            self._refuse(method, path, 401, "RepoNotFound")
        elif asked:
            self._document(asked.group(2), model, asked.group(3))
        elif file:
            self._file(method, model, file.group(2), file.group(3))
        elif large:
            self._large(model, large.group(2))

    def _refuse(self, method: str, what: str, status: int, code: str) -> None:
        self.of.log.append((method, what))
        self._send(status, b"", {"X-Error-Code": code} if code else {})

    def _document(self, kind: str, model: str, revision: str) -> None:
        if revision not in ("main", self.of.commit(model)):
            return self._refuse("GET", kind, 404, "RevisionNotFound")
        self.of.log.append(("GET", kind))
        folder = self.of.models[model]
        files = sorted(p for p in folder.rglob("*") if p.is_file())
        found: Any
        if kind == "revision":
            siblings = [_sibling(p.relative_to(folder).as_posix(), p) for p in files]
            found = {"id": model, "sha": self.of.commit(model), "siblings": siblings}
        else:
            found = [_entry(p.relative_to(folder).as_posix(), p) for p in files]
        return self._send(200, json.dumps(found).encode(), {"Content-Type": "application/json"})

    def _file(self, method: str, model: str, revision: str, name: str) -> None:
        path, commit = self.of.models[model] / name, self.of.commit(model)
        headers = {"X-Repo-Commit": commit}
        if not path.is_file() or revision not in ("main", commit):
            code = "EntryNotFound" if revision in ("main", commit) else "RevisionNotFound"
            self._refuse(method, name, 404, code)
        elif name in self.of.refuse:
            self._refuse(method, name, self.of.refuse[name], "")
        elif name.endswith(LARGE):
            size, digest = path.stat().st_size, _sha256(path)
            elsewhere = f"{self.of.url.replace('127.0.0.1', 'localhost')}/elsewhere/{model}/{name}"
            self.of.log.append((method, f"{name} (where)"))
            linked = {"X-Linked-Size": str(size), "X-Linked-Etag": f'"{digest}"', "Location": elsewhere}
            self._send(302, b"", headers | linked)
        else:
            self.of.log.append((method, name))
            self._send(200, path.read_bytes(), headers | {"ETag": f'"{_git_id(path)}"'}, method)

    def _large(self, model: str, name: str) -> None:
        content = (self.of.models[model] / name).read_bytes()
        if name in self.of.wrong:
            content = content[:-1] + bytes([content[-1] ^ 1])
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if wanted:
            first, last = int(wanted[1]), min(int(wanted[2] or len(content)), len(content) - 1)
            self.of.log.append(("GET", f"{name} (part)"))
            span = {"Content-Range": f"bytes {first}-{last}/{len(content)}"}
            self._send(206, content[first : last + 1], span, cut=name in self.of.cut)
        elif name == self.of.stops_at:
            self._send(200, content, {}, cut=True)
            self.of.stopped.set()
            threading.Event().wait(10)
        else:
            self.of.log.append(("GET", name))
            if self.of.watched is not None:
                self.of.together.append(1 + len(list(self.of.watched.rglob("*.safetensors"))))
            self._send(200, content, {}, cut=name in self.of.cut)

    def _send(
        self, status: int, body: bytes, headers: dict[str, str], method: str = "GET", *, cut: bool = False
    ) -> None:
        self.send_response(status)
        for key, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(key, value)
        self.end_headers()
        if method != "HEAD":
            self.wfile.write(body[: len(body) // 2] if cut else body)


def _sibling(name: str, path: Path) -> dict[str, Any]:
    size = path.stat().st_size
    found: dict[str, Any] = {
        "rfilename": name,
        "size": size,
        "blobId": _git_id(path),
    }
    if path.name.endswith(LARGE):
        found["lfs"] = {"sha256": _sha256(path), "size": size, "pointerSize": 134}
    return found


def _entry(name: str, path: Path) -> dict[str, Any]:
    size = path.stat().st_size
    found: dict[str, Any] = {
        "type": "file",
        "path": name,
        "size": size,
        "oid": _git_id(path),
    }
    if path.name.endswith(LARGE):
        found["lfs"] = {"oid": _sha256(path), "size": size, "pointerSize": 134}
    return found


def _digests(folder: Path) -> list[str]:
    return [f"{p.relative_to(folder)} {_sha256(p)}" for p in sorted(folder.rglob("*")) if p.is_file()]


def _sha256(path: Path) -> str:
    return _digest(path, path.stat().st_mtime_ns)


@cache
def _digest(path: Path, changed: int) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _git_id(path: Path) -> str:
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
