"""Downloads from a local server that misbehaves as real servers do."""

from __future__ import annotations

import hashlib
import http.server
import os
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from tasks.core.errors import UnavailableError, UserError
from tasks.sources.download import download

BODY = bytes(range(256)) * 1000

Answer = Callable[[http.server.BaseHTTPRequestHandler], None]


def send(
    request: http.server.BaseHTTPRequestHandler, body: bytes = BODY, status: int = 200
) -> None:
    request.send_response(status)
    request.send_header("Content-Length", str(len(body)))
    request.end_headers()
    request.wfile.write(body)


def fail(status: int) -> Answer:
    return partial(send, body=b"no", status=status)


def drop(request: http.server.BaseHTTPRequestHandler) -> None:
    """Promise the whole body, send half of it and hang up."""
    request.send_response(200)
    request.send_header("Content-Length", str(len(BODY)))
    request.end_headers()
    request.wfile.write(BODY[: len(BODY) // 2])


def trickle(request: http.server.BaseHTTPRequestHandler, head: bytes) -> None:
    """Send `head`, then a byte every 20 ms for longer than any test waits."""
    request.wfile.write(head)
    for _ in range(1000):
        request.wfile.write(b"x")
        time.sleep(0.02)


def stall(request: http.server.BaseHTTPRequestHandler) -> None:
    """Send nothing until the client hangs up."""
    request.connection.recv(1)


def redirect(request: http.server.BaseHTTPRequestHandler) -> None:
    request.send_response(302)
    request.send_header("Location", "/elsewhere")
    request.send_header("Content-Length", "0")
    request.end_headers()


class Server(http.server.ThreadingHTTPServer):
    """Gives one answer after the other, then repeats the last one."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: list[Answer] = []
        self.requests: list[dict[str, str]] = []
        self.url = f"http://127.0.0.1:{self.server_port}/data.gz"

    def handle_error(self, *_: object) -> None:
        """Ignore clients that hang up, as several tests make them do."""


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        answers = self.server.answers
        answer = answers[min(len(self.server.requests), len(answers) - 1)]
        self.server.requests.append(dict(self.headers))
        answer(self)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "*")
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def destination(tmp_path: Path) -> Path:
    return tmp_path / "raw" / "data.gz"


def is_body(path: Path) -> None:
    if path.read_bytes() != BODY:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        raise UserError(f"expected another digest than {digest}")


def fetch(server: Server, destination: Path, **settings: float) -> list[str]:
    """Download with short pauses; return the logged lines."""
    lines: list[str] = []
    path = download(
        server.url,
        destination,
        verify=is_body,
        log=lines.append,
        **{"backoff_s": 0.01, "timeout_s": 2.0, "deadline_s": 10.0, **settings},  # type: ignore[arg-type]
    )
    assert path == destination
    return lines


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_success(server: Server, destination: Path) -> None:
    server.answers = [send]

    assert fetch(server, destination) == []
    assert destination.read_bytes() == BODY
    assert files(destination.parent) == ["data.gz"]
    assert server.requests[0]["Accept-Encoding"] == "identity"


def test_the_file_has_ordinary_permissions(server: Server, destination: Path) -> None:
    server.answers = [send]
    fetch(server, destination)
    umask = os.umask(0)
    os.umask(umask)

    assert stat.S_IMODE(destination.stat().st_mode) == 0o666 & ~umask


def test_bytes_are_stored_as_sent(server: Server, destination: Path) -> None:
    """Some servers declare a .gz file as `Content-Encoding`; it must stay compressed."""

    def labelled(request: http.server.BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Encoding", "gzip")
        request.end_headers()
        request.wfile.write(BODY)

    server.answers = [labelled]
    fetch(server, destination)

    assert destination.read_bytes() == BODY


def test_redirects_are_followed(server: Server, destination: Path) -> None:
    server.answers = [redirect, send]
    fetch(server, destination)

    assert destination.read_bytes() == BODY


@pytest.mark.parametrize("status", [400, 403, 404, 410])
def test_refusals_are_not_retried(server: Server, destination: Path, status: int) -> None:
    server.answers = [fail(status), send]

    with pytest.raises(UnavailableError, match=rf"data\.gz.*\(1 attempt\).*200, got {status}"):
        fetch(server, destination)
    assert len(server.requests) == 1
    assert files(destination.parent) == []


@pytest.mark.parametrize("first", [fail(500), fail(503), fail(408), fail(429), drop])
def test_transient_failures_are_retried(server: Server, destination: Path, first: Answer) -> None:
    server.answers = [first, send]
    lines = fetch(server, destination)

    assert len(server.requests) == 2
    assert len(lines) == 1
    assert "attempt 1 of 3 failed" in lines[0]
    assert destination.read_bytes() == BODY
    assert files(destination.parent) == ["data.gz"]


def test_the_number_of_attempts_is_limited(server: Server, destination: Path) -> None:
    server.answers = [fail(500)]

    with pytest.raises(UnavailableError) as caught:
        fetch(server, destination)
    assert len(server.requests) == 3
    for part in (server.url, "3 attempts", "500 Internal Server Error"):
        assert part in str(caught.value)


def test_pauses_double(server: Server, destination: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr("tasks.sources.download.time.sleep", pauses.append)
    server.answers = [fail(500)]

    with pytest.raises(UnavailableError):
        fetch(server, destination, attempts=4, backoff_s=0.5)
    assert pauses == [0.5, 1.0, 2.0]


@pytest.mark.parametrize("bad", [partial(send, body=b"<html>"), partial(send, body=BODY[:-1])])
def test_wrong_content_is_retried(server: Server, destination: Path, bad: Answer) -> None:
    server.answers = [bad, send]
    fetch(server, destination)

    assert destination.read_bytes() == BODY


@pytest.mark.parametrize(
    "answer", [fail(404), fail(500), drop, partial(send, body=b"<html>sign in</html>")]
)
def test_failure_keeps_the_existing_file(server: Server, destination: Path, answer: Answer) -> None:
    destination.parent.mkdir()
    destination.write_bytes(b"before")
    server.answers = [answer]

    with pytest.raises(UnavailableError):
        fetch(server, destination)
    assert destination.read_bytes() == b"before"
    assert files(destination.parent) == ["data.gz"]


def test_the_error_names_a_wrong_digest(server: Server, destination: Path) -> None:
    server.answers = [partial(send, body=b"<html>")]

    with pytest.raises(UnavailableError, match=r"3 attempts.*expected another digest"):
        fetch(server, destination)
    assert files(destination.parent) == []


def test_success_replaces_the_existing_file(server: Server, destination: Path) -> None:
    destination.parent.mkdir()
    destination.write_bytes(b"before")
    server.answers = [send]
    fetch(server, destination)

    assert destination.read_bytes() == BODY


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(b"", id="status line"),
        pytest.param(b"HTTP/1.1 200 OK\r\nX-Slow: ", id="header"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 256000\r\n\r\n", id="body"),
        pytest.param(b"HTTP/1.1 200 OK\r\n\r\n", id="body of unknown length"),
    ],
)
def test_a_trickling_server_is_stopped_at_the_deadline(
    server: Server, destination: Path, head: bytes
) -> None:
    server.answers = [partial(trickle, head=head)]
    start = time.monotonic()

    with pytest.raises(UnavailableError, match="the deadline passed"):
        fetch(server, destination, deadline_s=0.3)
    assert time.monotonic() - start < 3
    assert files(destination.parent) == []


def test_a_silent_server_is_stopped_by_the_timeout(server: Server, destination: Path) -> None:
    server.answers = [stall, send]
    lines = fetch(server, destination, timeout_s=0.2)

    assert "ReadTimeout" in lines[0]


def test_no_attempt_begins_after_the_deadline(server: Server, destination: Path) -> None:
    server.answers = [fail(500)]
    start = time.monotonic()

    with pytest.raises(UnavailableError, match="got 500"):
        fetch(server, destination, deadline_s=1.0, backoff_s=60.0)
    assert time.monotonic() - start < 1
    assert len(server.requests) == 1


def test_no_server_listens(server: Server, destination: Path) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        server.url = f"http://127.0.0.1:{bound.getsockname()[1]}/data.gz"
        with pytest.raises(UnavailableError, match=r"3 attempts.*ConnectError"):
            fetch(server, destination)


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/x", "no address", "http://127.0.0.1:port/", ""])
def test_an_address_of_another_kind(server: Server, destination: Path, url: str) -> None:
    server.url = url

    with pytest.raises(UnavailableError, match=r"1 attempt\).*not an http or https address"):
        fetch(server, destination)


def test_an_unusable_proxy(
    server: Server, destination: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("ALL_PROXY", "gopher://127.0.0.1:1")

    with pytest.raises(UnavailableError, match="proxy set in the environment"):
        fetch(server, destination)


def test_a_folder_that_cannot_be_created(server: Server, tmp_path: Path) -> None:
    (tmp_path / "raw").write_text("in the way")
    server.answers = [send]

    with pytest.raises(UnavailableError, match=r"raw.*1 attempt\)"):
        fetch(server, tmp_path / "raw" / "data.gz")
