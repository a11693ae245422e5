"""The server that a run uses, found before Prefect is imported, is the one that Prefect uses."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from prefect.settings.models.root import Settings

from flows.running.server_address import named_by_user

ENV, PREFECT, PYPROJECT, PROFILE = ".env", "prefect.toml", "pyproject.toml", "home/profiles.toml"


def url(name: str) -> str:
    return f"http://{name}.example/api"


FILES = {
    ENV: f"prefect_api_url={url('env')}\n",
    PREFECT: f"[api]\nurl = '{url('prefect')}'\n",
    PYPROJECT: f"[tool.prefect.api]\nurl = '{url('pyproject')}'\n",
    PROFILE: f"active = 'far'\n[profiles.far]\nPREFECT_API_URL = '{url('profile')}'\n[profiles.x]",
}


@pytest.mark.parametrize(
    ("present", "named"),
    [
        ((), None),
        ((PROFILE,), "profile"),
        ((PROFILE, PYPROJECT), "pyproject"),
        ((PROFILE, PYPROJECT, PREFECT), "prefect"),
        ((PROFILE, PYPROJECT, PREFECT, ENV), "env"),
    ],
)
@pytest.mark.parametrize("in_environment", [False, True])
def test_the_named_server_is_the_one_that_prefect_uses(
    present: tuple[str, ...],
    named: str | None,
    in_environment: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "home").mkdir()
    for name in present:
        (tmp_path / name).write_text(FILES[name])
    for name in [name for name in os.environ if name.startswith("PREFECT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PREFECT_PROFILES_PATH", str(tmp_path / PROFILE))
    monkeypatch.chdir(tmp_path)
    expected = url(named) if named else None
    if in_environment:
        expected = url("environment")
        monkeypatch.setenv("PREFECT_API_URL", expected)
    assert Settings().api.url == expected
    assert named_by_user() == expected
