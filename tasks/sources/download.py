"""Download one file over HTTP; it appears complete and verified, or not at all."""

from __future__ import annotations

import itertools
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.core.errors import UnavailableError, UserError
from tasks.core.messages import first_line
from tasks.storage.files import sync_folder

if TYPE_CHECKING:
    import httpx

_RETRIED_STATUSES = frozenset({408, 429})


class _TryAgainError(Exception):
    """The attempt failed, but the next one may succeed."""


class _GiveUpError(Exception):
    """The attempt failed, and so would the next one."""


def download(
    url: str,
    destination: Path,
    *,
    verify: Callable[[Path], None],
    log: Callable[[str], None],
    attempts: int = 3,
    timeout_s: float = 15.0,
    deadline_s: float = 600.0,
    backoff_s: float = 1.0,
) -> Path:
    """Download `url` to `destination`, replace any file there, and return `destination`.

    The bytes are stored as the server sends them: a `Content-Encoding` is neither requested nor
    decoded.

    Args:
        url: an http or https address.
        destination: the path of the file; its folder is created if necessary.
        verify: is called with the complete file, which still has a temporary name. It raises
            `UserError` if the content is wrong, which counts as a failed attempt.
        log: is called with a line about each failed attempt that is followed by another.
        attempts: the number of attempts.
        timeout_s: the limit of each socket operation.
        deadline_s: the limit of all attempts together, with the pauses between them.
        backoff_s: the first pause; each further pause is twice as long.

    Raises:
        UnavailableError: the download failed; `destination` is unchanged.
    """
    deadline = time.monotonic() + deadline_s
    for attempt in itertools.count(1):
        try:
            _attempt(url, destination, verify, timeout_s, deadline)
            return destination
        except (_GiveUpError, OSError) as error:
            raise _unavailable(url, destination, attempt, error) from error
        except (_TryAgainError, UserError) as error:
            pause = backoff_s * 2 ** (attempt - 1)
            if attempt >= attempts or time.monotonic() + pause >= deadline:
                raise _unavailable(url, destination, attempt, error) from error
            log(f"{url}: attempt {attempt} of {attempts} failed ({error}); retrying in {pause:g} s")
        time.sleep(pause)
    raise AssertionError("unreachable: the last attempt returns or raises")


def _unavailable(url: str, destination: Path, attempt: int, error: Exception) -> UnavailableError:
    cause = first_line(error)
    return UnavailableError(
        f"{url} could not be downloaded to {destination} ({attempt} "
        f"attempt{'s' if attempt > 1 else ''}). Last error: {cause}. Check the network and the "
        "folder."
    )


def _attempt(
    url: str,
    destination: Path,
    verify: Callable[[Path], None],
    timeout_s: float,
    deadline: float,
) -> None:
    destination.parent.mkdir(parents=True, exist_ok=True)
    with _partial_beside(destination) as partial:
        _fetch(url, partial, timeout_s, deadline)
        verify(partial)
        partial.replace(destination)
    sync_folder(destination.parent)


@contextmanager
def _partial_beside(destination: Path) -> Iterator[Path]:
    """A unique name for a temporary file, which is removed afterwards unless it was renamed."""
    partial = destination.with_name(f".{destination.name}.{secrets.token_hex(8)}.partial")
    try:
        yield partial
    finally:
        partial.unlink(missing_ok=True)


def _fetch(url: str, partial: Path, timeout_s: float, deadline: float) -> None:
    import httpx

    timeout = max(0.001, min(timeout_s, deadline - time.monotonic()))
    watchdog = _Watchdog(deadline)
    try:
        with (
            watchdog,
            _client(timeout) as client,
            client.stream(
                "GET",
                url,
                headers={"Accept-Encoding": "identity"},
                extensions={"trace": watchdog.trace},
            ) as response,
        ):
            _check_status(response)
            _write(response.iter_raw(), partial, watchdog)
    except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
        raise _GiveUpError(f"not an http or https address: {first_line(error)}") from error
    except httpx.HTTPError as error:
        watchdog.check()
        raise _TryAgainError(f"{type(error).__name__}: {first_line(error)}") from error


def _client(timeout: float) -> httpx.Client:
    import httpx

    try:
        return httpx.Client(timeout=timeout, follow_redirects=True)
    except (ImportError, ValueError) as error:
        raise _GiveUpError(
            f"the proxy set in the environment cannot be used: {first_line(error)}"
        ) from error


def _check_status(response: httpx.Response) -> None:
    status = response.status_code
    if status == 200:
        return
    message = f"expected HTTP status 200, got {status} {response.reason_phrase}".rstrip()
    if status >= 500 or status in _RETRIED_STATUSES:
        raise _TryAgainError(message)
    raise _GiveUpError(message)


def _write(chunks: Iterator[bytes], partial: Path, watchdog: _Watchdog) -> None:
    with partial.open("xb") as file:
        for chunk in chunks:
            watchdog.check()
            file.write(chunk)
        # If the length of the body is unknown, a closed connection looks like the end of the body.
        watchdog.check()
        file.flush()
        os.fsync(file.fileno())


class _Watchdog:
    """Closes an attempt's connections at the deadline, whatever they are waiting for.

    A timeout is not enough: each byte that arrives restarts it, and httpx does not return before
    the response's header is complete. So a server that sends a byte now and then can only be
    stopped by another thread. (The system limits the time of a DNS lookup.)
    """

    def __init__(self, deadline: float) -> None:
        self._deadline = deadline
        self._sockets: list[socket.socket] = []
        self._timer = threading.Timer(max(0.0, deadline - time.monotonic()), self._cut)
        self._timer.daemon = True

    def __enter__(self) -> None:
        self._timer.start()

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()

    def trace(self, event: str, info: dict[str, Any]) -> None:
        """Note each connection; httpx calls this as its `trace` extension."""
        if event in ("connection.connect_tcp.complete", "connection.start_tls.complete"):
            self._sockets.append(info["return_value"].get_extra_info("socket"))
            if time.monotonic() >= self._deadline:  # the timer fired before this connection
                self._cut()

    def check(self) -> None:
        """Raise an error if the deadline has passed."""
        if time.monotonic() >= self._deadline:
            raise _GiveUpError("the deadline passed before the file was complete")

    def _cut(self) -> None:
        for connection in self._sockets:
            with suppress(OSError):  # already closed
                # SSLSocket's own method is not safe while another thread is reading.
                socket.socket.shutdown(connection, socket.SHUT_RDWR)
