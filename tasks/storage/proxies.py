"""Proxies of the environment: never for this machine's own addresses, and refused if unusable.

Prefect, its servers, boto3, downloads and Dask's workers all read the same variables, whenever they
open a connection. So they are corrected once, and child processes inherit them.
"""

from __future__ import annotations

import os
import re
from urllib.parse import urlsplit

from tasks.core.errors import UserError
from tasks.core.messages import first_line

# As httpx, urllib (botocore) and websockets all understand them; httpx raises for `[::1]`.
LOOPBACK_HOSTS = ("127.0.0.1", "localhost", "::1")
EVERYTHING = "*"


def spare_loopback() -> None:
    """Exempt this machine's own addresses from proxies, in this process and its children.

    For all other addresses, the user's proxies and exceptions stay as they are. Without proxies,
    nothing changes: on macOS, `NO_PROXY` alone would switch off the system's proxies.
    """
    named = {name: value for name, value in os.environ.items() if name.lower().endswith("_proxy")}
    exceptions = [value for name, value in named.items() if name.lower() == "no_proxy"]
    if len(named) == len(exceptions):
        return
    entries = dict.fromkeys((*_entries(",".join(exceptions)), *LOOPBACK_HOSTS))
    # Libraries differ in which of the two they read, and urllib knows `*` only when it is alone.
    joined = EVERYTHING if EVERYTHING in entries else ",".join(entries)
    os.environ["no_proxy"] = os.environ["NO_PROXY"] = joined


def _entries(exceptions: str) -> list[str]:
    """The hosts of a `NO_PROXY`; IPv6 addresses lose brackets, with which httpx can't work."""
    entries = [entry.strip() for entry in exceptions.split(",")]
    return [
        entry[1:].partition("]")[0] if entry.startswith("[") else entry
        for entry in entries
        if entry
    ]


def check_proxies() -> None:
    """Refuse proxies that Prefect's client can't use.

    Raises:
        UserError: `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` or `NO_PROXY` is malformed.
    """
    from urllib.request import getproxies_environment

    given = getproxies_environment()
    proxies = {name: given[name] for name in ("http", "https", "all") if name in given}
    if not proxies or given.get("no") == EVERYTHING:
        return
    import ssl

    import httpx

    for name, value in proxies.items():
        try:
            usable = bool(httpx.Proxy(value if "://" in value else f"http://{value}").url.host)
        except (ValueError, httpx.InvalidURL):
            usable = False
        if not usable:
            # The value is not repeated, since it may contain a password.
            raise UserError(
                f"{name.upper()}_PROXY: expected http://HOST:PORT, or https, socks5 or socks5h "
                "instead of http (special characters of a password are written as %40 and the "
                "like); correct or unset it."
            )
    try:
        # With an own context, it loads no certificates, which need not be there for this.
        httpx.Client(verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)).close()
    except (ValueError, httpx.InvalidURL):
        raise UserError(
            "NO_PROXY: expected hosts separated by commas, e.g. localhost,.example.org,10.1.2.3; "
            "correct or unset it."
        ) from None


def check_certificates() -> None:
    """Refuse a file of certificates without which Prefect and its server can't even be imported.

    Raises:
        UserError: `SSL_CERT_FILE` names a file that can't be read.
    """
    path = os.environ.get("SSL_CERT_FILE")
    if not path:
        return
    import ssl

    try:
        ssl.create_default_context(cafile=path)
    except OSError as error:
        raise UserError(
            f"SSL_CERT_FILE names {path}, which is no readable file of certificates "
            f"({first_line(error)}); correct or unset it."
        ) from None


def proxy_for(address: str) -> str:
    """The proxy for an address, without its credentials; empty if there is none."""
    from urllib.request import getproxies_environment, proxy_bypass

    parts, given = urlsplit(address), getproxies_environment()
    if proxy_bypass(f"{parts.hostname}:{parts.port or ''}"):
        return ""
    return _without_credentials(given.get(parts.scheme) or given.get("all") or "")


def proxies_described() -> str:
    """All variables that name proxies or exceptions, without credentials; empty if there are none.

    They are described even if they are malformed.
    """
    names = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
    return ", ".join(
        f"{name}={_without_credentials(value)}"
        for name, value in sorted(os.environ.items())
        if name.lower() in names
    )


def _without_credentials(proxy: str) -> str:
    """The proxy without all that precedes its last `@`, whichever characters a password has."""
    scheme = re.match(r"[a-z][a-z0-9+.-]*://|", proxy, re.IGNORECASE)
    before, _, host = proxy.rpartition("@")
    return f"{scheme.group()}{host}" if before and scheme else host
