"""The run's results as a short Markdown text, which the Prefect UI shows as an artifact."""

from __future__ import annotations

from tasks.reporting.report_view import ReportView, render_view


def render_summary(view: ReportView, page: str) -> str:
    """Render the summary as Markdown; `page` is the report's path."""
    return render_view("summary.md.j2", view, path=page)
