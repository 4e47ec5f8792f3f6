"""What a person meets: the browser's pages and the terminal's commands."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from backend import Backend
    from ui.live import LiveJobs


def register(backend: Backend) -> LiveJobs:
    """Attach all pages, and return what feeds them; it ends with NiceGUI or by `aclose`."""
    # NiceGUI reads its settings when it is imported, and the commands do without it.
    from nicegui import app

    from backend.api.sending import offer_to, text_frame
    from backend.jobs.retention import leaves_at
    from ui.audience import CardFacts
    from ui.bells import Bells
    from ui.live import LiveJobs
    from ui.nicegui_internals import DirectWay, broadcasts, guard_sockets, require_security_members, sign_scripts
    from ui.pages.dashboard import add_dashboard_page
    from ui.pages.history import add_history_page
    from ui.pages.job import add_job_page
    from ui.pages.lists import add_lists_page
    from ui.pages.machines import add_machines_page
    from ui.pages.notifications import add_notifications_page
    from ui.pages.problems import add_problems_page
    from ui.pages.stats import add_stats_page

    require_security_members()
    live = LiveJobs(
        lambda user, after: backend.queries.watch(by=user, after=after),
        broadcasts(way=DirectWay(offer_to, text_frame)),
        backend.clock,
        CardFacts(
            lambda job: leaves_at(job, backend.settings),
            backend.forecasts.of,
            backend.stalls.of,
            backend.line.of,
            backend.line.all_done,
            backend.rates.of,
            backend.usual_runs.of,
            backend.usual_runs.usual,
        ),
    )
    backend.metrics.watched_by(lambda: live.watchers)
    bells = Bells(backend.notifications, backend.clock, backend.settings.zone)
    app.on_connect(bells.join)
    app.on_disconnect(bells.leave)
    app.on_delete(bells.leave)
    sign_scripts()
    guard_sockets(backend.accounts)
    add_dashboard_page(backend, live)
    add_lists_page(backend)
    add_job_page(backend)
    add_history_page(backend)
    add_problems_page(backend)
    add_stats_page(backend)
    add_machines_page(backend)
    add_notifications_page(backend)
    app.on_shutdown(live.aclose)
    return live
