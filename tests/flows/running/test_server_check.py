"""A named server that can't be used is refused in one message, whatever is wrong with it."""

from __future__ import annotations

import json
import os
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import prefect
import pytest
from prefect.settings import (
    PREFECT_API_AUTH_STRING,
    PREFECT_API_KEY,
    PREFECT_API_SSL_CERT_FILE,
    PREFECT_API_TLS_INSECURE_SKIP_VERIFY,
    PREFECT_CLIENT_CUSTOM_HEADERS,
    PREFECT_CLOUD_API_URL,
    temporary_settings,
)

from flows.running import server_check
from flows.running.server_address import NamedServer
from flows.running.server_check import problem_with, require_server
from tasks.core.errors import StageError
from tasks.storage.proxies import spare_loopback
from tests.conftest import ROOT

HEALTHY = json.dumps(prefect.__version__)
HTML = "<!DOCTYPE html><title>Prefect</title>"
Requests = list[tuple[str, dict[str, str]]]


@contextmanager
def answering(
    status: int,
    body: str,
    *,
    certificate: Path | None = None,
    location: str = "",
    port: int = 0,
    before: tuple[int, ...] = (),
) -> Iterator[tuple[str, Requests]]:
    """A server that gives one answer to everything; its address, and the requests that it got.

    The first requests get the statuses `before`.
    """
    got: Requests = []
    first = list(before)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            got.append((self.path, dict(self.headers)))
            self.send_response(first.pop(0) if first else status)
            if location:
                self.send_header("Location", location + self.path)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: Any) -> None:
            pass

    class Quiet(ThreadingHTTPServer):
        def handle_error(self, *_: Any) -> None:
            pass

    server = Quiet(("127.0.0.1", port), Handler)
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        scheme = "https" if certificate else "http"
        yield f"{scheme}://127.0.0.1:{server.server_port}", got
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("certificate")
    made = folder / "both.pem"
    subprocess.run(
        [
            "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
            "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1",
            "-keyout", folder / "key.pem", "-out", folder / "cert.pem",
        ],
        check=True,
        capture_output=True,
    )  # fmt: skip
    made.write_text((folder / "key.pem").read_text() + (folder / "cert.pem").read_text())
    return made


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(server_check, "PAUSES_S", (0.05, 0.05, 0.05))


def problem(address: str) -> str | None:
    found = problem_with(NamedServer(address, "the file .env"))
    assert found is None or "\n" not in found
    return found


def test_a_healthy_server_is_asked_once_with_prefects_credentials() -> None:
    given: dict[Any, Any] = {
        PREFECT_API_AUTH_STRING: "joe:secret",
        PREFECT_CLIENT_CUSTOM_HEADERS: {"X-Gate": "open"},
    }
    with answering(200, HEALTHY) as (url, got), temporary_settings(given):
        assert problem(f"{url}/api/") is None
    ((path, headers),) = got
    assert path == "/api/admin/version"
    assert headers["Authorization"] == "Basic am9lOnNlY3JldA=="
    assert headers["X-Gate"] == "open"


@pytest.mark.parametrize(
    ("status", "body", "path", "said"),
    [
        (401, "", "/api", "answers 401 Unauthorized: set PREFECT_API_AUTH_STRING=NAME:PASSWORD"),
        (403, "", "/api", "answers 403 Forbidden: set PREFECT_API_AUTH_STRING"),
        (407, "", "/api", "the proxy answers 407 Proxy Authentication Required"),
        (502, HTML, "/api", "a gateway or proxy before it answers 502 Bad Gateway"),
        (503, HTML, "/api", "a gateway or proxy before it answers 503 Service Unavailable"),
        (
            200,
            HTML,
            "",
            r"answers \(200 OK\), but not as Prefect's API does; write /api at its end",
        ),
        (200, HTML, "/api", "but not as Prefect's API does; name another: this is another program"),
        (404, "{}", "/", "write /api at its end"),
        (500, "", "/api", r"is overloaded or failing \(500 Internal Server Error\); try again"),
        (429, "", "/api", r"is overloaded or failing \(429 Too Many Requests\); try again"),
        (400, "The plain HTTP request was sent to HTTPS port", "/api", "write https://"),
        (400, "", "/api", r"answers \(400 Bad Request\), but not as Prefect's API does"),
        (200, '"2.20.9"', "/api", 'has version "2.20.9", this program uses 3'),
    ],
)
def test_an_answer_that_is_not_the_apis_says_what_to_do(
    status: int, body: str, path: str, said: str
) -> None:
    with answering(status, body) as (url, _):
        named = NamedServer(url.replace("//", "//joe:secret@") + path, "the file .env")
        with pytest.raises(StageError, match=said) as refused:
            require_server(named)
        message = str(refused.value)
        assert message.startswith(f"the Prefect server {url}{path} ")
    assert message.endswith(". It is named by the file .env.")
    assert "secret" not in message
    assert len(message) <= 400


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_that_turns_posts_into_gets_is_refused(status: int) -> None:
    with (
        answering(200, HEALTHY) as (target, _),
        answering(status, "", location=target) as (url, _),
    ):
        found = problem(f"{url}/api")
    refused = f"redirects to {target}/api; name that address"
    assert found == (refused if status < 307 else None)


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_a_server_that_is_being_restarted_is_asked_again(status: int) -> None:
    with answering(200, HEALTHY, before=(status, status, status)) as (url, got):
        assert problem(f"{url}/api") is None
    assert len(got) == 4


def test_a_server_that_comes_back_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_check, "PAUSES_S", (0.2,) * 9)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]

    def come_back() -> None:
        with answering(200, HEALTHY, port=port):
            time.sleep(3)

    later = threading.Timer(0.3, come_back)
    later.start()
    assert problem(f"http://127.0.0.1:{port}/api") is None
    later.join()


def test_a_server_that_is_away_is_refused() -> None:
    found = problem("http://127.0.0.1:1/api")
    assert found
    assert "Connection refused" in found
    assert "start it, or correct or remove its address" in found


@contextmanager
def talking(talk: Callable[[socket.socket], None]) -> Iterator[str]:
    """A port on which something talks that is not HTTP."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            try:
                while True:
                    with listener.accept()[0] as connection:
                        talk(connection)
            except OSError:
                pass

        threading.Thread(target=accept, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/api"


def drip(connection: socket.socket) -> None:
    """Send one byte after the other, so that no single step takes long."""
    connection.sendall(b"HTTP/1.1 200 OK\r\n")
    for _ in range(100):
        connection.sendall(b"X: y\r\n")
        time.sleep(0.1)


@pytest.mark.parametrize("talk", [drip, lambda _: time.sleep(9)])
def test_a_silent_or_slow_server_is_given_up(
    talk: Callable[[socket.socket], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_check, "LIMIT_S", 1.0)
    with talking(talk) as url:
        begin = time.monotonic()
        found = problem(url)
    assert time.monotonic() - begin < 5
    assert found
    assert found.startswith("does not answer within 1 s")


def test_another_protocol_is_recognized() -> None:
    with talking(lambda connection: connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")) as url:
        assert "does not answer as a web server does" in (problem(url) or "")


def test_https_at_a_port_of_http_and_the_reverse(certificate: Path) -> None:
    with answering(200, HEALTHY) as (url, _):
        found = problem(url.replace("http:", "https:") + "/api")
        assert "does not speak https" in (found or "")
        assert "write http://" in (found or "")
    with answering(200, HEALTHY, certificate=certificate) as (url, _):
        assert "write https://" in (problem(url.replace("https:", "http:") + "/api") or "")


def test_certificates_are_judged_as_prefect_judges_them(certificate: Path) -> None:
    with answering(200, HEALTHY, certificate=certificate) as (url, _):
        found = problem(f"{url}/api")
        assert "a certificate that is not trusted (self-signed certificate)" in (found or "")
        assert "PREFECT_API_SSL_CERT_FILE" in (found or "")
        trusted: dict[Any, Any] = {PREFECT_API_SSL_CERT_FILE: str(certificate)}
        with temporary_settings(trusted):
            assert problem(f"{url}/api") is None
        with temporary_settings({PREFECT_API_TLS_INSECURE_SKIP_VERIFY: True}):
            assert problem(f"{url}/api") is None
        with temporary_settings({PREFECT_API_SSL_CERT_FILE: "/nowhere.pem"}):
            assert "check its address and PREFECT_API_SSL_CERT_FILE" in (
                problem(f"{url}/api") or ""
            )


@pytest.mark.parametrize("address", ["localhost:4200/api", "server.example/api", "http://", "/api"])
def test_what_is_no_address_is_refused(address: str) -> None:
    assert problem(address)


@pytest.mark.parametrize("port", ["99999", "many"])
def test_what_is_no_port_is_refused(port: str) -> None:
    assert "is not an address" in (problem(f"http://127.0.0.1:{port}/api") or "")


def test_prefect_cloud_is_refused_only_if_it_says_so() -> None:
    for status, body, refused in ((404, "{}", False), (403, "{}", False), (401, "{}", True)):
        with answering(status, body) as (url, got):
            cloud: dict[Any, Any] = {PREFECT_CLOUD_API_URL: f"{url}/api", PREFECT_API_KEY: "pnu_1"}
            with temporary_settings(cloud):
                found = problem(f"{url}/api/accounts/1/workspaces/2")
        assert bool(found) is refused
        assert got[0][1]["Authorization"] == "Bearer pnu_1"


def test_a_proxy_in_between_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with answering(503, HTML) as (proxy, got):
        monkeypatch.setenv("HTTP_PROXY", proxy.replace("//", "//joe:secret@"))
        spare_loopback()
        found = problem("http://prefect.invalid:4200/api")
    assert got[0][0] == "http://prefect.invalid:4200/api/admin/version"
    assert f"The proxy {proxy} is used" in (found or "")
    assert "add prefect.invalid to NO_PROXY" in (found or "")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"PREFECT_API_TLS_INSECURE_SKIP_VERIFY": "maybe"}, "APISettings.tls_insecure_skip_verify"),
        ({"PREFECT_CLIENT_CUSTOM_HEADERS": "x"}, 'field "custom_headers"'),
        ({"PREFECT_API_SSL_CERT_FILE": "/nowhere.pem"}, "names /nowhere.pem, which is no readable"),
        ({"PREFECT_LOGGING_SETTINGS_PATH": "logging.yaml"}, "Prefect can't be imported ("),
    ],
)
def test_settings_with_which_no_run_works_are_refused(
    given: dict[str, str], said: str, tmp_path: Path
) -> None:
    code = (
        "from flows.running.server_check import import_prefect, require_settings\n"
        "from tasks.core.errors import UserError\n"
        "try: require_settings(); import_prefect()\n"
        "except UserError as error: print(error)"
    )
    (tmp_path / "logging.yaml").write_text("a\nb: [c")
    surroundings = os.environ | {"PREFECT_HOME": str(tmp_path), "PYTHONPATH": str(ROOT)} | given
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path, env=surroundings, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert said in done.stdout
    assert "PREFECT_" in done.stdout
    assert len(done.stdout) <= 401
