"""A hub on a port of this machine: as much of Hugging Face's as making, filling and reading repositories takes.

Large files (LARGE) lie in Git LFS and are read from another host, as the real hub's are: "localhost" instead of
"127.0.0.1", which may not see the token.
"""

import base64
import hashlib
import json
import re
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

LARGE = (".safetensors", ".zip", ".png", ".jpg", ".pkl")
OWNER, TOKEN, READ_TOKEN = "me", "hf_write", "hf_read"
_REPO = r"(?P<datasets>datasets/)?(?P<name>[\w.-]+/[\w.-]+)"
_API = r"/api/(?P<kind>model|dataset)s/(?P<name>[\w.-]+/[\w.-]+)"


@dataclass
class Repo:
    """A repository: `commits` are its files by name, the newest last."""

    private: bool = False
    commits: list = field(default_factory=lambda: [{".gitattributes": b"*.zip filter=lfs\n"}])
    messages: list = field(default_factory=list)

    def commit(self, revision):
        """The number of a commit; None where there is none."""
        names = [commit_name(number) for number in range(len(self.commits))]
        return len(names) - 1 if revision == "main" else names.index(revision) if revision in names else None


def commit_name(number):
    return hashlib.sha1(f"commit {number}".encode()).hexdigest()


def git_sha1(content):
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class LocalHub(ThreadingHTTPServer):
    """The server, with what it holds (`repos` by (kind, name), `objects` of LFS by SHA-256) and was asked (`asked`)."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.repos, self.objects, self.asked = {}, {}, []
        self.stop_at = None  # bytes of a large file after which `stopped` is waited for; once
        self.cut_at = None  # bytes of a large file after which the connection ends; once
        self.lies = {}  # SHA-256 of a large file, or the name of another -> other bytes that are sent in its place
        self.meanwhile = lambda: None  # called before a large file is sent
        self.status = None  # of every answer, where set
        self.stopped = threading.Event()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"

    def put(self, kind, name, files):
        """Add a commit with `files` (name -> bytes) to a repository, which is made."""
        repo = self.repos.setdefault((kind, name), Repo())
        repo.commits.append({**repo.commits[-1], **files})
        for path, content in files.items():
            if path.endswith(LARGE):
                self.objects[hashlib.sha256(content).hexdigest()] = content

    def files(self, kind, name):
        """The newest files of a repository."""
        return self.repos[kind, name].commits[-1]


@contextmanager
def local_hub():
    """A LocalHub that runs within the block."""
    server = LocalHub()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.stopped.set()
        server.shutdown()
        thread.join()
        server.server_close()


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *values):
        pass

    def do_GET(self):
        self._answer("GET")

    def do_HEAD(self):
        self._answer("HEAD")

    def do_POST(self):
        self._answer("POST")

    def do_PUT(self):
        self._answer("PUT")

    def _answer(self, method):
        path = unquote(urlsplit(self.path).path)
        chunked = self.headers.get("Transfer-Encoding") == "chunked"
        self.body = self._chunks() if chunked else self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.asked.append((method, path, self.headers))
        if self.server.status:
            self._send(self.server.status, {"error": "as the test wants it"})
            return
        for pattern, handle in ROUTES:
            if found := re.fullmatch(pattern, path):
                handle(self, **found.groupdict())
                return
        self._send(404, {"error": f"no route for {method} {path}"})

    def _chunks(self):
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _send(self, status, value=None, content=None, **headers):
        content = json.dumps(value).encode() if content is None else content
        self.send_response(status)
        for name, text in headers.items():
            self.send_header(name.replace("_", "-"), text)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    @property
    def token(self):
        return self.headers.get("Authorization", "").removeprefix("Bearer ")

    def _repo(self, kind, name, write=False):
        """The repository; None where it may not be seen or written, and that was answered."""
        repo = self.server.repos.get((kind, name))
        if self.token and self.token not in (TOKEN, READ_TOKEN):
            self._send(401, {"error": "Invalid credentials"}, X_Error_Message="Invalid credentials")
        elif repo is None or (repo.private and not self.token):
            status = 404 if self.token else 401
            self._send(status, {"error": "Repository not found"}, X_Error_Code="RepoNotFound")
        elif write and self.token != TOKEN:
            self._send(403, {"error": "no write access"}, X_Error_Message="no write access")
        else:
            return repo
        return None

    def create(self):
        asked = json.loads(self.body)
        kind, owner = asked.get("type", "model"), asked.get("organization") or OWNER
        key = kind, f"{owner}/{asked['name']}"
        if self.token not in (TOKEN, READ_TOKEN):
            self._send(401, {"error": "Invalid username or password."})
        elif self.token == READ_TOKEN or owner != OWNER:
            self._send(403, {"error": "no rights"}, X_Error_Message="You have no rights there")
        elif key in self.server.repos:
            self._send(409, {"error": "You already created this repo"})
        else:
            private = asked.get("visibility") == "private" or asked.get("private") is True
            self.server.repos[key] = Repo(private=private)
            self._send(200, {"url": f"{self.server.url}/{'datasets/' * (kind == 'dataset')}{key[1]}"})

    def yaml(self):
        self._send(200, {"errors": [], "warnings": []})

    def preupload(self, kind, name):
        if self._repo(kind, name, write=True):
            modes = [
                {
                    "path": one["path"],
                    "uploadMode": "lfs" if one["path"].endswith(LARGE) else "regular",
                    "shouldIgnore": False,
                }
                for one in json.loads(self.body)["files"]
            ]
            self._send(200, {"files": modes})

    def batch(self, datasets, name):
        if self._repo("dataset" if datasets else "model", name, write=True):
            objects = []
            for one in json.loads(self.body)["objects"]:
                upload = {"upload": {"href": f"{self.server.url}/lfs/{one['oid']}"}}
                objects.append(one if one["oid"] in self.server.objects else {**one, "actions": upload})
            self._send(200, {"transfer": "basic", "objects": objects})

    def store(self, oid):
        assert hashlib.sha256(self.body).hexdigest() == oid
        self.server.objects[oid] = self.body
        self._send(200, {})

    def commit(self, kind, name):
        if (repo := self._repo(kind, name, write=True)) is None:
            return
        files = dict(repo.commits[-1])
        for line in map(json.loads, self.body.splitlines()):
            value = line["value"]
            if line["key"] == "header":
                repo.messages.append(value["summary"])
            elif line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            else:
                assert line["key"] == "lfsFile"
                files[value["path"]] = self.server.objects[value["oid"]]
        repo.commits.append(files)
        oid = commit_name(len(repo.commits) - 1)
        self._send(200, {"commitUrl": f"{self.server.url}/{name}/commit/{oid}", "commitOid": oid})

    def info(self, kind, name, revision=None):
        if (repo := self._repo(kind, name)) is not None:
            number = repo.commit(revision or "main")
            if number is None:
                self._send(404, {"error": "Invalid rev id"}, X_Error_Code="RevisionNotFound")
                return
            siblings = [{"rfilename": path} for path in repo.commits[number]]
            about = {"id": name, "sha": commit_name(number), "private": repo.private, "siblings": siblings}
            self._send(200, about)

    def tree(self, kind, name, revision):
        if (repo := self._repo(kind, name)) is not None:
            entries = [{"type": "directory", "path": "folder", "oid": "0" * 40, "size": 0}]
            for path, content in repo.commits[repo.commit(revision)].items():
                entry = {"type": "file", "path": path, "size": len(content), "oid": git_sha1(content)}
                if path.endswith(LARGE):
                    digest = hashlib.sha256(content).hexdigest()
                    entry["lfs"] = {"oid": digest, "size": len(content), "pointerSize": 130}
                entries.append(entry)
            self._send(200, entries)

    def resolve(self, datasets, name, revision, path):
        if (repo := self._repo("dataset" if datasets else "model", name)) is None:
            return
        content = repo.commits[repo.commit(revision)].get(path)
        if content is None:
            self._send(404, {"error": "Entry not found"}, X_Error_Code="EntryNotFound")
        elif path.endswith(LARGE):
            digest = hashlib.sha256(content).hexdigest()
            self._send(
                302,
                content=b"",
                Location=f"http://localhost:{self.server.server_port}/cdn/{digest}",
                X_Linked_Etag=f'"{digest}"',
                X_Linked_Size=str(len(content)),
                X_Repo_Commit=revision,
            )
        else:
            sent = self.server.lies.get(path, content)
            self._send(200, content=sent, ETag=f'"{git_sha1(content)}"', X_Repo_Commit=revision)

    def cdn(self, oid):
        server = self.server
        server.meanwhile()
        content = server.lies.get(oid, server.objects[oid])
        first = int(re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", "bytes=0-"))[1])
        self.send_response(206 if first else 200)
        if first:
            self.send_header("Content-Range", f"bytes {first}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - first))
        self.send_header("ETag", f'"{oid}"')
        self.end_headers()
        if server.cut_at is not None:
            self.wfile.write(content[first : server.cut_at])
            server.cut_at, self.close_connection = None, True
            return
        if server.stop_at is not None:
            self.wfile.write(content[first : server.stop_at])
            server.stop_at = None
            server.stopped.wait()
            self.close_connection = True
            return
        self.wfile.write(content[first:])


ROUTES = (
    (r"/api/repos/create", Handler.create),
    (r"/api/validate-yaml", Handler.yaml),
    (rf"{_API}/preupload/main", Handler.preupload),
    (rf"/{_REPO}\.git/info/lfs/objects/batch", Handler.batch),
    (r"/lfs/(?P<oid>[0-9a-f]{64})", Handler.store),
    (rf"{_API}/commit/main", Handler.commit),
    (rf"{_API}/tree/(?P<revision>[^/]+)", Handler.tree),
    (_API, Handler.info),
    (rf"{_API}/revision/(?P<revision>[^/]+)", Handler.info),
    (r"/cdn/(?P<oid>[0-9a-f]{64})", Handler.cdn),
    (rf"/{_REPO}/resolve/(?P<revision>[^/]+)/(?P<path>.+)", Handler.resolve),
)
