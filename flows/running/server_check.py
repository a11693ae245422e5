"""Whether the Prefect server that the user named can be used, found before anything else starts."""

from __future__ import annotations

import base64
import json
import re
import threading
import time
import warnings
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from flows.running.server_address import PREFECT_DEFAULTS, NamedServer
from tasks.core.errors import StageError, UserError, without_password
from tasks.core.messages import first_line, shortened
from tasks.storage.proxies import proxy_for

if TYPE_CHECKING:
    import httpx
    from prefect.settings import Settings

# Below the 30 s within which the user hears of a mistake, with time for imports.
LIMIT_S = 15.0
REFUSED = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)
GATEWAY = (HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT)
# After these, httpx repeats a POST as a GET, so Prefect's client could not create a run.
REDIRECTS = (HTTPStatus.MOVED_PERMANENTLY, HTTPStatus.FOUND, HTTPStatus.SEE_OTHER)
# Answers and errors of a server that is being restarted, and the seconds before each repetition.
PASSING = re.compile(r"^(429|502|503|504)\b|refused")
PAUSES_S = (1.0, 2.0, 2.0)
NO_ADDRESS = "is not an address; expected http://HOST:PORT/api"
LONGEST_REASON = 100


def require_server(server: NamedServer) -> None:
    """Refuse a server that can't be used.

    Raises:
        StageError: it can't be used; the message says where it was named, and what to do.
        UserError: Prefect's settings are malformed.
    """
    problem = problem_with(server)
    if problem:
        raise StageError(
            f"the Prefect server {without_password(server.address)} {problem}. "
            f"It is named by {server.source}."
        )


def problem_with(server: NamedServer) -> str | None:
    """What is wrong with a server and what to do, as the rest of a sentence; None if nothing is.

    Takes one request, with the credentials and certificates of Prefect's settings, and at most
    `LIMIT_S` seconds. It is repeated if the server seems to be just being restarted.

    Raises:
        UserError: Prefect's settings are malformed.
    """
    try:
        # Raises if the port is none.
        _ = urlsplit(server.address).port
    except ValueError:
        return NO_ADDRESS
    settings = prefect_settings()
    found: list[str | None] = []
    # In a thread, because httpx limits the time of each step, not of the whole request.
    asking = threading.Thread(
        target=lambda: found.append(_problem(server.address, settings)), daemon=True
    )
    asking.start()
    asking.join(LIMIT_S)
    return found[0] if found else _silent(server.address)


def prefect_settings() -> Settings:
    """Prefect's settings from the environment and its files; imports Prefect.

    Raises:
        UserError: a setting is malformed.
    """
    from pydantic import ValidationError
    from pydantic_settings.exceptions import SettingsError

    try:
        with warnings.catch_warnings():
            # One that Prefect's own folder can't be written: a client can do without.
            warnings.simplefilter("ignore")
            from prefect.settings import get_current_settings

            return get_current_settings()
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join((error.title, *map(str, first["loc"])))
        raise _invalid(f"{name}: {_cut(first['msg'])}") from None
    except SettingsError as error:
        raise _invalid(_cut(error)) from None


def require_settings() -> None:
    """Refuse settings of Prefect with which no run works, whichever server it uses.

    Raises:
        UserError: a setting is malformed, or the file of certificates can't be read.
    """
    settings = prefect_settings()
    try:
        # Even for http, Prefect's client reads it.
        _certificates(settings)
    except OSError as error:
        raise UserError(
            f"PREFECT_API_SSL_CERT_FILE names {shortened(str(settings.api.ssl_cert_file), 100)}, "
            f"which is no readable file of certificates ({first_line(error)}); correct or unset it."
        ) from None


def import_prefect() -> None:
    """Import all of Prefect, which reads more of its settings then.

    Raises:
        UserError: they keep it from being imported.
    """
    try:
        import prefect.main  # noqa: F401 - for its effect
    except Exception as error:
        raise UserError(
            f"Prefect can't be imported ({type(error).__name__}: {first_line(error)}); unset or "
            "correct PREFECT_LOGGING_SETTINGS_PATH and other variables PREFECT_... in the "
            "environment or .env; if there are none, run make setup again."
        ) from error


def settings_of_servers(settings: Settings) -> list[str]:
    """The names of settings that the user gives to servers; servers of this program ignore them."""
    given = settings.server.to_environment_variables(exclude_unset=True)
    # The second is set in the profile that Prefect brings.
    ours = {*PREFECT_DEFAULTS, "PREFECT_SERVER_EPHEMERAL_ENABLED"}
    return sorted(given.keys() - ours)


def _invalid(reason: str) -> UserError:
    return UserError(
        f"Prefect's settings are not valid ({shortened(reason, 150)}); correct the variable "
        "PREFECT_... in the environment, .env, prefect.toml or Prefect's profile."
    )


def _problem(address: str, settings: Settings) -> str | None:
    import httpx

    try:
        return _problem_of(_answer(address, settings), address, settings)
    except (httpx.InvalidURL, httpx.UnsupportedProtocol):
        return NO_ADDRESS
    except httpx.TimeoutException:
        return _silent(address)
    except httpx.ProxyError as error:
        return f"can't be reached ({_cut(error)}){_through(address)}"
    except (httpx.RemoteProtocolError, httpx.ReadError):
        other = "http" if address.startswith("https:") else "https"
        return (
            f"does not answer as a web server does; write {other}:// if that is what it speaks"
            f"{_through(address)}"
        )
    except httpx.ConnectError as error:
        return _not_connected(str(error), address)
    except Exception as error:
        # A certificate file that does not exist, a name that is no host's, ...
        return f"can't be asked ({_cut(error)}); check its address and PREFECT_API_SSL_CERT_FILE"


def _answer(address: str, settings: Settings) -> httpx.Response:
    """The server's answer to the request with which Prefect's client begins, too."""
    import httpx

    with httpx.Client(
        verify=_certificates(settings),
        headers=_headers(settings),
        timeout=LIMIT_S,
        follow_redirects=True,
        http2=settings.api.enable_http2,
    ) as client:
        url = f"{address.rstrip('/')}/{_path(address, settings)}"
        last = time.monotonic() + LIMIT_S / 2
        for pause in PAUSES_S:
            try:
                answer = client.get(url)
                if not PASSING.search(str(answer.status_code)):
                    return answer
            except (httpx.ConnectError, httpx.ProxyError) as error:
                if not PASSING.search(str(error)):
                    raise
            if time.monotonic() + pause > last:
                break
            time.sleep(pause)
        return client.get(url)


def _path(address: str, settings: Settings) -> str:
    return "health" if _is_cloud(address, settings) else "admin/version"


def _is_cloud(address: str, settings: Settings) -> bool:
    return address.startswith(str(settings.cloud.api_url))


def _certificates(settings: Settings) -> Any:
    import ssl

    import certifi

    if settings.api.tls_insecure_skip_verify:
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context
    return ssl.create_default_context(cafile=settings.api.ssl_cert_file or certifi.where())


def _headers(settings: Settings) -> dict[str, str]:
    headers = dict(settings.client.custom_headers)
    if settings.api.auth_string:
        given = settings.api.auth_string.get_secret_value().encode()
        headers["Authorization"] = f"Basic {base64.b64encode(given).decode()}"
    elif settings.api.key:
        headers["Authorization"] = f"Bearer {settings.api.key.get_secret_value()}"
    return headers


def _problem_of(answer: httpx.Response, address: str, settings: Settings) -> str | None:
    status = f"{answer.status_code} {answer.reason_phrase}".strip()
    if any(before.status_code in REDIRECTS for before in answer.history):
        target = str(answer.url).removesuffix(f"/{_path(address, settings)}")
        return f"redirects to {_cut(target)}; name that address"
    if _is_cloud(address, settings):
        # Its other answers say nothing: it is asked for a path that it need not have.
        refused = answer.status_code == HTTPStatus.UNAUTHORIZED
        return f"answers {status}; log in: prefect cloud login" if refused else None
    if answer.status_code in REFUSED:
        return (
            f"answers {status}: set PREFECT_API_AUTH_STRING=NAME:PASSWORD, or PREFECT_API_KEY, to "
            "what it expects"
        )
    if answer.status_code == HTTPStatus.PROXY_AUTHENTICATION_REQUIRED:
        return f"can't be reached: the proxy answers {status}{_through(address)}"
    if answer.status_code in GATEWAY:
        return (
            f"can't be reached: a gateway or proxy before it answers {status}; see whether it "
            f"runs{_through(address)}"
        )
    if answer.status_code == HTTPStatus.BAD_REQUEST and "HTTPS" in answer.text:
        return f"answers {status}, since it speaks https; write https:// in its address"
    if answer.is_server_error or answer.status_code == HTTPStatus.TOO_MANY_REQUESTS:
        return f"is overloaded or failing ({status}); try again{_through(address)}"
    try:
        version = answer.json() if answer.is_success else None
    except ValueError:
        version = None
    if not isinstance(version, str):
        return _no_api(status, address)
    return _unlike(version)


def _no_api(status: str, address: str) -> str:
    complete = urlsplit(address).path.rstrip("/").endswith("/api")
    advice = "name another: this is another program" if complete else "write /api at its end"
    return f"answers ({status}), but not as Prefect's API does; {advice}{_through(address)}"


def _unlike(version: str) -> str | None:
    from prefect import __version__ as ours

    if version.partition(".")[0] == ours.partition(".")[0]:
        return None
    return f"has version {_cut(json.dumps(version))}, this program uses {ours}; use one of that"


def _not_connected(reason: str, address: str) -> str:
    if "CERTIFICATE_VERIFY_FAILED" in reason:
        why = reason.partition("verify failed: ")[2].partition(" (_ssl")[0] or reason
        return (
            f"has a certificate that is not trusted ({_cut(why)}); name the file of the one to "
            "trust with PREFECT_API_SSL_CERT_FILE"
        )
    if "SSL" in reason:
        return f"does not speak https ({_cut(reason)}); write http://, if that is meant"
    return (
        f"can't be reached ({_cut(reason)}); start it, or correct or remove its address"
        f"{_through(address)}"
    )


def _silent(address: str) -> str:
    return (
        f"does not answer within {LIMIT_S:.0f} s; see whether it is busy or another program"
        f"{_through(address)}"
    )


def _through(address: str) -> str:
    """The proxy for an address as the end of a sentence, and what to do if it is not meant."""
    proxy = proxy_for(address)
    host = urlsplit(address).hostname
    return f". The proxy {proxy} is used; if it should not be, add {host} to NO_PROXY" * bool(proxy)


def _cut(reason: object) -> str:
    text = without_password(" ".join(str(reason).split())) or type(reason).__name__
    return text if len(text) <= LONGEST_REASON else f"{text[: LONGEST_REASON - 3]}..."
