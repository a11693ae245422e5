"""A service that looks like S3 but lacks something: a proxy before the tests' S3 server."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import httpx

# What a service may lack. Each makes the proxy answer in place of the server, or change a request.
IGNORES_NONE_MATCH = "ignores If-None-Match"
IGNORES_MATCH = "ignores If-Match"
REFUSES_NONE_MATCH = "refuses If-None-Match"
REFUSES_MATCH = "refuses If-Match"
REFUSES_CHECKSUMS = "refuses checksums"
LISTS_NOTHING = "lists nothing"
SHOWS_NOTHING_NEW = "does not show new objects yet"
FAILS_NONE_MATCH = "answers each If-None-Match with 412"
IS_NO_S3 = "answers everything with 404"
IS_SILENT = "never answers"
IS_SLOW = "answers slowly"

NOT_IMPLEMENTED = b"<Error><Code>NotImplemented</Code><Message>no</Message></Error>"
NO_SUCH_KEY = b"<Error><Code>NoSuchKey</Code><Message>no</Message></Error>"
PRECONDITION_FAILED = b"<Error><Code>PreconditionFailed</Code><Message>no</Message></Error>"
# Of each request, in seconds.
SLOW_S = 1.5
NOTHING_LISTED = (
    b'<?xml version="1.0" encoding="UTF-8"?>'
    b'<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
    b"<Name>bucket</Name><KeyCount>0</KeyCount><MaxKeys>1000</MaxKeys>"
    b"<IsTruncated>false</IsTruncated></ListBucketResult>"
)
PER_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "expect"}


@contextmanager
def lookalike(address: str, *lacks: str) -> Iterator[str]:
    """The address of a service like that at `address`, which lacks something."""
    with httpx.Client(base_url=address, timeout=60) as client:

        class Handler(_Handler):
            upstream = client
            lacking = frozenset(lacks)

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            server.server_close()


class _Handler(BaseHTTPRequestHandler):
    upstream: httpx.Client
    lacking: frozenset[str]
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Print nothing."""

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if IS_SILENT in self.lacking:
            time.sleep(60)
        if IS_SLOW in self.lacking:
            time.sleep(SLOW_S)
        if IS_NO_S3 in self.lacking:
            return self._send(404, {"Content-Type": "text/html"}, b"<html>not found</html>")
        if FAILS_NONE_MATCH in self.lacking and "If-None-Match" in self.headers:
            return self._send(412, {}, PRECONDITION_FAILED)
        listed = "list-type" in parse_qs(urlsplit(self.path).query)
        if SHOWS_NOTHING_NEW in self.lacking and self.command != "PUT" and not listed:
            return self._send(404, {}, NO_SUCH_KEY)
        if self._unknown():
            return self._send(501, {}, NOT_IMPLEMENTED)
        lists = self.command == "GET" and "list-type" in parse_qs(urlsplit(self.path).query)
        if lists and LISTS_NOTHING in self.lacking:
            return self._send(200, {"Content-Type": "application/xml"}, NOTHING_LISTED)
        kept = {name: value for name, value in self.headers.items() if name.lower() not in PER_HOP}
        if IGNORES_NONE_MATCH in self.lacking:
            kept.pop("If-None-Match", None)
        if IGNORES_MATCH in self.lacking:
            kept.pop("If-Match", None)
        found = self.upstream.request(self.command, self.path, headers=kept, content=body)
        headers = {n: v for n, v in found.headers.items() if n.lower() not in PER_HOP}
        if self.command == "HEAD":
            headers["Content-Length"] = found.headers.get("Content-Length", "0")
        return self._send(found.status_code, headers, found.content)

    def _unknown(self) -> bool:
        """Whether the request has something that the service does not know."""
        names = {name.lower() for name in self.headers}
        checksums = any(name.startswith(("x-amz-checksum", "x-amz-sdk-ch")) for name in names)
        chunked = "aws-chunked" in self.headers.get("Content-Encoding", "") or "STREAMING" in (
            self.headers.get("x-amz-content-sha256", "")
        )
        return (
            ("if-none-match" in names and REFUSES_NONE_MATCH in self.lacking)
            or ("if-match" in names and REFUSES_MATCH in self.lacking)
            or ((checksums or chunked) and REFUSES_CHECKSUMS in self.lacking)
        )

    def _send(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response_only(status)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            self.send_header(name, value)
        if not any(name.lower() == "date" for name in headers):
            self.send_header("Date", self.date_time_string())
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _answer  # noqa: N815
