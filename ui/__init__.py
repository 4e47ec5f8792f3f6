"""What a person meets: the browser's pages and the terminal's commands."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from backend import Backend
    from ui.live import LiveJobs


def register(backend: Backend) -> LiveJobs:
    """Attach all pages; what is returned feeds them, and ends with NiceGUI or by `aclose`."""
    # NiceGUI reads its settings when it is imported, and the commands do without it.
    from nicegui import app

    from backend.retention import leaves_at
    from ui.csp import sign_scripts
    from ui.live import Known, LiveJobs
    from ui.pages.dashboard import add_dashboard_page
    from ui.pages.history import add_history_page
    from ui.pages.job import add_job_page
    from ui.pages.lists import add_lists_page
    from ui.session import guard_sockets

    live = LiveJobs(
        lambda user: backend.manager.watch(by=user),
        backend.clock,
        Known(lambda job: leaves_at(job, backend.settings), backend.forecasts.of, backend.stalls.of),
    )
    sign_scripts()
    guard_sockets(backend.accounts)
    add_dashboard_page(backend, live)
    add_lists_page(backend)
    add_job_page(backend)
    add_history_page(backend)
    app.on_shutdown(live.aclose)
    return live
