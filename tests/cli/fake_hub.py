"""A Hub on this machine: the few answers of its API that thorns asks for, with small and large files,
a second server for the large ones, and faults that tests order one by one. With a certificate it
speaks TLS."""

import hashlib
import http.server
import json
import os
import re
import ssl
import subprocess
import threading
import urllib.parse

COMMIT = "89abcdef" * 5
LARGE = 1000  # bytes from which a file is in large file storage


def git_hash(content):
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def make_certificate(folder, name="certificate", hosts="IP:127.0.0.1,DNS:localhost"):
    """A certificate that nobody but itself vouches for: the file of it and its key."""
    path = os.path.join(folder, name + ".pem")
    key = os.path.join(folder, name + ".key")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
         "-days", "2", "-subj", "/CN=" + name, "-addext", "subjectAltName=" + hosts,
         "-out", path, "-keyout", key],
        check=True, capture_output=True)
    return path, key


class Request:
    def __init__(self, handler):
        self.server = handler.server.name
        self.path = handler.path
        self.token = handler.headers.get("Authorization")
        self.range = handler.headers.get("Range")


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, hub, name, host, certificate=None):
        self.hub = hub
        self.name = name
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = "%s://%s:%d" % ("https" if certificate else "http", host, self.server_address[1])
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
            # The handshake is the handler's thread's, not that of all.
            self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    def handle_error(self, request, client_address):
        pass  # a client that hangs up


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments):
        pass

    def do_GET(self):
        hub = self.server.hub
        with hub.lock:
            hub.requests.append(Request(self))
            fault = next((f for f in hub.faults if re.search(f[0], self.path)), None)
            if fault:
                hub.faults.remove(fault)
        if fault:
            fault[1](self)
        elif self.server.name == "cdn":
            self.send_file(hub.large[self.path.split("?")[0]])
        else:
            hub.answer(self)

    def send(self, status, body=b"", **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if "Content_Length" not in headers:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def send_json(self, value, **headers):
        self.send(200, json.dumps(value).encode(), **headers)

    def send_file(self, content, cut=None):
        """The range that is asked for; `cut`: bytes after which the connection ends."""
        begin, end, status, headers = 0, len(content), 200, {}
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if asked:
            begin = int(asked[1])
            end = min(int(asked[2]) + 1, end) if asked[2] else end
            if begin >= len(content):
                return self.send(416, Content_Range="bytes */%d" % len(content))
            status = 206
            headers["Content_Range"] = "bytes %d-%d/%d" % (begin, end - 1, len(content))
        body = content[begin:end]
        with self.server.hub.lock:
            self.server.hub.bytes_sent += len(body)
        self.send(status, body[:cut], Content_Length=str(len(body)), **headers)
        if cut is not None:
            self.close_connection = True


class FakeHub:
    def __init__(self, certificate=None, cdn_certificate=None):
        self.lock = threading.Lock()
        self.requests = []
        self.faults = []  # (pattern of a path, what to do once with the handler)
        self.repositories = {}
        self.large = {}
        self.bytes_sent = 0  # of files
        self.page = 1000  # files in one answer of the API
        self.tree_change = lambda entries: entries
        self.endpoint = Server(self, "hub", "127.0.0.1", certificate)
        # Another name for this machine, so that it is another host to the program.
        self.cdn = Server(self, "cdn", "localhost", cdn_certificate)

    def close(self):
        for server in (self.endpoint, self.cdn):
            server.shutdown()
            server.server_close()

    def add(self, repository, files, revisions=("main",)):
        self.repositories[repository] = (files, revisions)
        for name, content in files.items():
            if len(content) >= LARGE:
                self.large["/" + hashlib.sha256(content).hexdigest()] = content

    def fail(self, pattern, *doings):
        self.faults += [(pattern, doing) for doing in doings]

    def answer(self, handler):
        url = urllib.parse.urlsplit(handler.path)
        parts = [urllib.parse.unquote(part) for part in url.path.split("/")[1:]]
        if parts[:2] == ["api", "models"]:
            return self.answer_api(handler, "/".join(parts[2:4]), parts[4:], url.query)
        repository, kind, commit, name = "/".join(parts[:2]), parts[2], parts[3], "/".join(parts[4:])
        content = self.repositories[repository][0].get(name)
        if kind != "resolve" or commit != COMMIT or content is None:
            return handler.send(404, X_Error_Code="EntryNotFound")
        if len(content) < LARGE:
            return handler.send_file(content)
        target = "/" + hashlib.sha256(content).hexdigest() + "?signature=secret"
        handler.send(302, Location=self.cdn.url + target, X_Repo_Commit=COMMIT)

    def answer_api(self, handler, repository, rest, query):
        if repository not in self.repositories:
            return handler.send(401, X_Error_Code="RepoNotFound")
        files, revisions = self.repositories[repository]
        if rest[0] == "revision":
            if rest[1] not in (*revisions, COMMIT):
                return handler.send(404, X_Error_Code="RevisionNotFound")
            return handler.send_json({"id": repository, "sha": COMMIT})
        entries = [{"type": "directory", "oid": "0" * 40, "size": 0, "path": "folder"}]
        for name, content in sorted(files.items()):
            entry = {"type": "file", "oid": git_hash(content), "size": len(content), "path": name}
            if len(content) >= LARGE:
                oid = hashlib.sha256(content).hexdigest()
                entry["lfs"] = {"oid": oid, "size": len(content), "pointerSize": 134}
                entry["oid"] = "1" * 40
            entries.append(entry)
        entries = self.tree_change(entries)
        first = int(urllib.parse.parse_qs(query).get("cursor", ["0"])[0])
        headers = {}
        if first + self.page < len(entries):
            next_url = "%s%s&cursor=%d" % (
                self.endpoint.url, re.sub("&cursor=.*", "", handler.path), first + self.page)
            headers["Link"] = '<%s>; rel="next"' % next_url
        handler.send_json(entries[first : first + self.page], **headers)
