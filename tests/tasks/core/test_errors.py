"""Errors keep secrets out of messages, and each is shown without a traceback."""

from __future__ import annotations

import pytest

from tasks.core import errors


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("see http://name:secret@host/x", "see http://host/x"),
        (
            "postgresql://u:p@db:5/x?y=a@b and https://u@host",
            "postgresql://db:5/x?y=a@b and https://host",
        ),
        ("via http://joe:p@ssw0rd@proxy:3128", "via http://proxy:3128"),
        ("'http://joe:a/b@proxy:1'", "'http://proxy:1'"),
        ("http://joe:p@a/b@proxy:1/x", "http://proxy:1/x"),
        ("http://u:p@h:1,http://v:q@g:2", "http://h:1,http://g:2"),
        ("HTTP_PROXY=joe:s/cret@proxy:3128 of 12:30", "HTTP_PROXY=proxy:3128 of 12:30"),
        (
            "see http://host:80/a@b and http://[::1]:80/a@b",
            "see http://host:80/a@b and http://[::1]:80/a@b",
        ),
        ("s3://bucket/a:b@c", "s3://bucket/a:b@c"),
        ("/data/12:30@noon", "/data/12:30@noon"),
        ("s3://bucket/key@v2", "s3://bucket/key@v2"),
        ("mail to a@b.org", "mail to a@b.org"),
    ],
)
def test_addresses_lose_their_credentials(text: str, shown: str) -> None:
    assert errors.without_password(text) == shown


def test_every_error_is_shown_without_a_traceback() -> None:
    kinds = [value for name, value in vars(errors).items() if name.endswith("Error")]
    assert len(kinds) == 8
    assert all(issubclass(kind, errors.FashionFlowError) for kind in kinds)


def test_storage_errors_are_not_retried_unless_they_are_transient() -> None:
    assert not errors.StorageError("full").transient
    assert errors.StorageError("slow", transient=True).transient
