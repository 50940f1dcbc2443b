"""A Hugging Face Hub on localhost: as much of its protocol as huggingface_hub's downloads and commits use."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs


class Hub:
    """``files``: repository to revision to file name to bytes; ``main`` is a revision that moves.

    Faults on demand: ``gated`` repositories, ``half`` of each body sent, the ``wrong`` bytes, ``sleep`` seconds before
    a file, ``read_only`` to every token, ``no_commits`` taken, ``no_deletions`` allowed.
    """

    def __init__(self) -> None:
        self.files: dict[str, dict[str, dict[str, bytes]]] = {}
        self.requests: list[str] = []
        self.gated: set[str] = set()
        self.half = self.wrong = self.read_only = self.no_commits = self.no_deletions = False
        self.sleep = 0.0
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": self}))
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def commit(self, repository: str, files: dict[str, bytes]) -> str:
        """Put ``files`` on main; returns the commit's id, under which they stay."""
        revisions = self.files.setdefault(repository, {})
        revisions["main"] = {**revisions.get("main", {}), **files}
        oid = hashlib.sha1(repr(sorted(revisions["main"].items())).encode()).hexdigest()
        revisions[oid] = dict(revisions["main"])
        return oid


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *args) -> None:
        pass

    def send(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command == "HEAD":
            return
        half = self.hub.half and "ETag" in headers
        self.wfile.write(body[: len(body) // 2] if half else body)
        self.close_connection = half

    def fail(self, status: int, code: str) -> None:
        self.send(status, json.dumps({"error": code}).encode(), X_Error_Code=code, X_Error_Message=code)

    def answer(self) -> None:
        hub = self.hub
        hub.requests.append(f"{self.command} {self.path}")
        time.sleep(hub.sleep if self.command == "GET" else 0)
        if self.path.startswith("/api/datasets/"):
            self.describe()
            return
        repository, _, rest = self.path.lstrip("/").partition("/resolve/")
        revision, _, name = rest.partition("/")
        revisions = hub.files.get(repository, {})
        if repository in hub.gated:
            self.fail(403, "GatedRepo")
        elif repository not in hub.files:
            self.fail(401, "RepoNotFound")
        elif revision not in revisions:
            self.fail(404, "RevisionNotFound")
        elif name not in revisions[revision]:
            self.fail(404, "EntryNotFound")
        else:
            body, oid = (
                revisions[revision][name],
                next(k for k, v in revisions.items() if k != "main" and v == revisions[revision]),
            )
            etag = hashlib.sha256(body).hexdigest()
            body = body[:-1] + bytes([body[-1] ^ 1]) if hub.wrong else body
            self.send(200, body, X_Repo_Commit=oid, ETag=f'"{etag}"')

    do_HEAD = do_GET = answer  # noqa: N815

    def describe(self, paths: list[str] | None = None) -> None:
        """What a data set holds: all, what lies in a folder, or what is known of ``paths``."""
        _, _, org, name, *rest = self.path.partition("?")[0].strip("/").split("/")
        what, revision, *inside = rest or ("revision", "main")
        revisions = self.hub.files.get(f"datasets/{org}/{name}", {})
        if revision not in revisions:
            self.fail(*((404, "RevisionNotFound") if revisions else (401, "RepoNotFound")))
            return
        files, inside = revisions[revision], "/".join(inside)
        if what == "revision":
            oid = next(k for k, v in revisions.items() if k != "main" and v == files)
            about = {"id": f"{org}/{name}", "sha": oid, "siblings": [{"rfilename": path} for path in files]}
            self.send(200, json.dumps(about).encode())
            return
        folders = {path.rpartition("/")[0] for path in files} - {""}
        there = [{"type": "file", "path": path, "size": len(files[path]), "oid": "0" * 40} for path in files]
        there += [{"type": "directory", "path": path, "oid": "0" * 40} for path in folders]
        if paths is None:
            there = [one for one in there if one["path"].startswith(f"{inside}/" * bool(inside))]
        else:
            there = [one for one in there if one["path"] in paths]
        self.send(200, json.dumps(there).encode())

    def do_DELETE(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.hub.no_deletions:
            self.fail(403, "Forbidden")
            return
        del self.hub.files["/".join(filter(None, (asked.get("organization"), asked["name"])))]
        self.send(200, b"{}")

    def do_POST(self) -> None:
        hub = self.hub
        hub.requests.append(f"{self.command} {self.path}")
        body = self.rfile.read(int(self.headers["Content-Length"]))
        parts = self.path.partition("?")[0].strip("/").split("/")
        if "/paths-info/" in self.path:
            fields = parse_qs(body.decode()) if not body.startswith(b"{") else json.loads(body)
            self.describe(fields["paths"])
        elif hub.read_only:
            self.fail(403, "Forbidden")
        elif parts == ["api", "repos", "create"]:
            asked = json.loads(body)
            name = "/".join(filter(None, (asked.get("organization"), asked["name"])))
            if name in hub.files:
                self.fail(409, "RepoExists")
                return
            hub.files[name] = {}
            self.send(200, json.dumps({"url": f"{hub.url}/{name}"}).encode())
        elif parts == ["api", "validate-yaml"]:
            self.send(200, b'{"errors": [], "warnings": []}')
        elif parts[-2] == "preupload":
            files = [
                {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in json.loads(body)["files"]
            ]
            self.send(200, json.dumps({"files": files}).encode())
        elif parts[-2] == "commit" and hub.no_commits:
            self.fail(500, "Broken")
        elif parts[-2] == "commit":
            values = [line["value"] for line in map(json.loads, body.splitlines()) if line["key"] == "file"]
            repository = "/".join(parts[2:4])
            oid = hub.commit(repository, {v["path"]: base64.b64decode(v["content"]) for v in values})
            answer = {"commitUrl": f"{hub.url}/{repository}/commit/{oid}", "commitOid": oid}
            self.send(200, json.dumps(answer).encode())
        else:
            self.fail(404, "NotFound")
