"""A web server on this machine that imitates what csDownload talks to: login, lists, sums, archives."""

import hashlib
import http.server
import json
import threading
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager

ACCOUNT = {"username": "student@example.org", "password": "correct horse"}


class Server:
    """The site: its archives, what it was asked for, and what is wrong with it."""

    def __init__(self, port: int):
        self.url = f"http://127.0.0.1:{port}"
        self.files: dict[str, bytes] = {}
        self.asked, self.ranges = [], []
        self.cut_at: int | None = None  # break the connection after so many bytes
        self.knows_ranges = True
        self.wrong_md5 = False

    def reply(self, handler) -> None:
        address = urllib.parse.urlparse(handler.path)
        self.asked.append(address.path.strip("/"))
        if address.path == "/login":
            return send(handler, 200, b"<form method='post'>")
        if "session=good" not in handler.headers.get("Cookie", ""):
            return send(handler, 302, Location="/login")
        if address.path == "/downloads/":
            packages = [
                {"name": name, "packageID": str(number), "size": "1.5KB", "thirdparty": "0"}
                for number, name in enumerate(self.files)
            ]
            return send(handler, 200, json.dumps(packages).encode())
        number = int(urllib.parse.parse_qs(address.query)["packageID"][0])
        name, content = list(self.files.items())[number]
        if address.path == "/md5-sum/":
            md5 = "0" * 32 if self.wrong_md5 else hashlib.md5(content).hexdigest()
            return send(handler, 200, f"{md5}  {name}\n".encode())
        return self.send_archive(handler, content)

    def send_archive(self, handler, content: bytes) -> None:
        wanted = handler.headers.get("Range")
        self.ranges.append(wanted)
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and self.knows_ranges else 0
        if start and start >= len(content):
            return send(handler, 416)
        content = content[start:]
        send(handler, 206 if start else 200, content[: self.cut_at], length=len(content))

    def login(self, handler) -> None:
        form = handler.rfile.read(int(handler.headers["Content-Length"])).decode()
        self.asked.append("POST login")
        if dict(urllib.parse.parse_qsl(form)) == {**ACCOUNT, "submit": "Login"}:
            send(handler, 302, **{"Location": "/", "Set-Cookie": "session=good"})
        else:
            send(handler, 200, b"<form method='post'>wrong")


def send(handler, status: int, content: bytes = b"", length: int | None = None, **headers: str) -> None:
    handler.send_response(status)
    for key, value in headers.items():
        handler.send_header(key, value)
    handler.send_header("Content-Length", str(len(content) if length is None else length))
    handler.end_headers()
    handler.wfile.write(content)


@contextmanager
def running_server() -> Iterator[Server]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            served.reply(self)

        def do_POST(self):
            served.login(self)

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        served = Server(running.server_address[1])
        threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()
        yield served
        running.shutdown()
