"""The page of `fashion-flow look`: one HTML page that needs no other file and no network."""

from __future__ import annotations

from collections.abc import Sequence

from tasks.reporting.look_view import LookView
from tasks.reporting.report_view import templates


def render_look(look: LookView, costs: Sequence[tuple[str, str]]) -> str:
    """Render the page as HTML; every value is escaped.

    Args:
        look: what was found.
        costs: what a run is likely to cost, as pairs of name and value; time comes first.
    """
    return templates().get_template("look.html.j2").render(view=look, look=look, costs=costs)
