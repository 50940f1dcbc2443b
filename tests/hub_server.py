"""A Hugging Face Hub on localhost: as much of its protocol as downloads by huggingface_hub use."""

from __future__ import annotations

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

CODES = {"repository": "RepoNotFound", "revision": "RevisionNotFound", "file": "EntryNotFound", "gated": "GatedRepo"}


class Hub:
    """``files``: repository to revision to file name to bytes. ``main`` and commit ids are revisions alike."""

    def __init__(self) -> None:
        self.files: dict[str, dict[str, dict[str, bytes]]] = {}
        self.gated: set[str] = set()
        self.requests: list[str] = []
        self.truncate = False
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args):
                pass

            def fail(self, status: int, code: str) -> None:
                self.send_response(status)
                self.send_header("X-Error-Code", code)
                self.send_header("X-Error-Message", code)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def answer(self, body_too: bool) -> None:
                hub.requests.append(f"{self.command} {self.path}")
                repository, _, rest = self.path.lstrip("/").partition("/resolve/")
                revision, _, name = rest.partition("/")
                if repository in hub.gated:
                    return self.fail(403, CODES["gated"])
                if repository not in hub.files:
                    return self.fail(401, CODES["repository"])
                revisions = hub.files[repository]
                if revision not in revisions:
                    return self.fail(404, CODES["revision"])
                if name not in revisions[revision]:
                    return self.fail(404, CODES["file"])
                body = revisions[revision][name]
                self.send_response(200)
                self.send_header("X-Repo-Commit", hashlib.sha1(repr(sorted(revisions[revision])).encode()).hexdigest())
                self.send_header("ETag", f'"{hashlib.sha256(body).hexdigest()}"')
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if body_too:
                    self.wfile.write(body[: len(body) // 2] if hub.truncate else body)
                    self.close_connection = hub.truncate
                return None

            def do_HEAD(self) -> None:
                self.answer(body_too=False)

            def do_GET(self) -> None:
                self.answer(body_too=True)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
