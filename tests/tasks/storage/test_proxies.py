"""Proxies never apply to this machine's own addresses, for any of the libraries that read them."""

from __future__ import annotations

import os

import httpx
import pytest
from botocore.utils import should_bypass_proxies
from websockets.proxy import get_proxy
from websockets.uri import parse_uri

from tasks.core.errors import UserError
from tasks.storage.proxies import (
    check_certificates,
    check_proxies,
    proxies_described,
    proxy_for,
    spare_loopback,
)

PROXY = "http://proxy.example:8080"
OWN = ("http://127.0.0.1:4200/api", "http://localhost:4200", "http://[::1]:4200")
NAMES = ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    # Removes at the end what `spare_loopback` sets.
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


def proxied(url: str) -> set[str]:
    """The libraries that would use a proxy for an address."""
    found = set()
    with httpx.Client() as client:
        transport = client._transport_for_url(httpx.URL(url))
    if type(transport._pool).__name__ != "ConnectionPool":  # type: ignore[attr-defined]
        found.add("httpx")
    if not should_bypass_proxies(url):
        found.add("botocore")
    if get_proxy(parse_uri(url.replace("http", "ws", 1))):
        found.add("websockets")
    return found


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "exceptions",
    [
        {},
        {"NO_PROXY": "", "no_proxy": ""},
        {"NO_PROXY": "inside.example", "no_proxy": ""},
        {"NO_PROXY": "[::1],127.0.0.1:80", "no_proxy": "inside.example , .org.example"},
    ],
)
def test_own_addresses_are_spared_and_others_are_not(
    name: str, exceptions: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, PROXY)
    for variable, value in exceptions.items():
        monkeypatch.setenv(variable, value)
    spare_loopback()
    check_proxies()
    for url in OWN:
        # The S3 client itself spares [::1].
        assert proxied(url) - ({"botocore"} if "[" in url else set()) == set()
    assert "httpx" in proxied("http://far.example") or "https" in name.lower()
    spared = any("inside" in value for value in exceptions.values())
    assert ("botocore" in proxied("http://inside.example")) is not spared
    assert os.environ["NO_PROXY"] == os.environ["no_proxy"]


def test_a_star_spares_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", PROXY)
    monkeypatch.setenv("NO_PROXY", "inside.example, *")
    spare_loopback()
    assert os.environ["no_proxy"] == os.environ["NO_PROXY"] == "*"
    assert proxied("http://far.example") == set()


def test_without_proxies_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "inside.example")
    spare_loopback()
    assert os.environ["NO_PROXY"] == "inside.example"
    assert "no_proxy" not in os.environ


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ALL_PROXY", "ftp://joe:secret@proxy.example:21"),
        ("ALL_PROXY", "socks4://proxy.example:1080"),
        ("HTTPS_PROXY", "proxy.example:many"),
        ("HTTP_PROXY", "http://joe:p#secret@proxy.example:8080"),
        ("HTTP_PROXY", "http://"),
    ],
)
def test_a_proxy_that_can_not_be_used_is_refused(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    spare_loopback()
    with pytest.raises(UserError, match=f"^{name}: expected http://HOST:PORT") as refused:
        check_proxies()
    assert "secret" not in str(refused.value)
    monkeypatch.setenv("no_proxy", "*")
    check_proxies()


def test_exceptions_that_can_not_be_used_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", PROXY)
    monkeypatch.setenv("NO_PROXY", "inside.example:many")
    spare_loopback()
    with pytest.raises(UserError, match="NO_PROXY: expected hosts"):
        check_proxies()


@pytest.mark.parametrize("value", ["socks5://proxy.example:1080", "socks5h://p:1", "https://p:1"])
def test_every_kind_of_proxy_that_is_in_use_is_accepted(
    value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALL_PROXY", value)
    spare_loopback()
    check_proxies()


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("joe:secret@proxy:3128", "proxy:3128"),
        ("joe:://secret@proxy:3128", "proxy:3128"),
        ("http://joe:p@secret@proxy:3128", "http://proxy:3128"),
        ("http://joe:1/secret@proxy:1", "http://proxy:1"),
        ("socks5h://proxy:1", "socks5h://proxy:1"),
        ("proxy:1", "proxy:1"),
    ],
)
def test_nothing_before_the_last_at_of_a_proxy_is_shown(
    value: str, shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", value)
    monkeypatch.setenv("NO_PROXY", "inside.example")
    assert proxy_for("http://far.example:4200/api") == shown
    assert proxies_described() == f"HTTP_PROXY={shown}, NO_PROXY=inside.example"


def test_certificates_are_not_needed_to_judge_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", PROXY)
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere.pem")
    check_proxies()
    with pytest.raises(UserError, match=r"SSL_CERT_FILE names /nowhere\.pem, .*unset it"):
        check_certificates()
    monkeypatch.delenv("SSL_CERT_FILE")
    check_certificates()


def test_messages_name_the_proxy_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://joe:secret@proxy.example:8080")
    spare_loopback()
    assert proxy_for("http://far.example:4200/api") == PROXY
    assert proxy_for("http://127.0.0.1:4200/api") == ""
    assert proxy_for("https://far.example/api") == ""
