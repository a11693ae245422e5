"""`fashion-flow ui`: start a Prefect server with its UI."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from flows.cli.common_options import whole_number
from flows.running.ui_server import serve_ui


def ui(
    *,
    port: Annotated[
        int, Parameter(converter=whole_number(1, 65535), help="The port to listen on.")
    ] = 4200,
    open_: Annotated[bool, Parameter("--open", help="Open the UI in a browser.")] = False,
) -> None:
    """Run the server until the process is stopped."""
    serve_ui(port, open_browser=open_)
