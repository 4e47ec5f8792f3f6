"""The page to compare with: a dashboard in the usual NiceGUI style, with an element for each field of each job's card.

It is served by the same server, reads from the same hub, and shows less than the product's cards. Every tab has its own
elements, and each update sets them. Import it after the server's settings are made: it imports NiceGUI.
"""

from __future__ import annotations

from nicegui import background_tasks, context, ui

from backend import Backend
from backend.delivery.batches import View
from backend.domain.job import Job
from ui.session import current_user, page

ADDRESS = "/usual"


class UsualCard:
    """One job's elements."""

    def __init__(self, job: Job) -> None:
        with ui.card().props(f"data-job-id={job.id}"):
            with ui.row():
                ui.label(job.name)
                self._status = ui.badge()
            with ui.row():
                self._percent = ui.label()
                self._count = ui.label()
            self._bar = ui.linear_progress(show_value=False)
            self._message = ui.label()
            self._updated = ui.label()
            with ui.row():
                ui.button("Pause")
                ui.button("Cancel")

    def show(self, job: Job) -> None:
        """Show the present state of the job."""
        self._status.set_text(job.status)
        self._percent.set_text(f"{job.progress} %")
        self._count.set_text(f"{job.current_video} / {job.total_videos}")
        self._bar.set_value(job.progress / 100)
        self._message.set_text(job.message)
        self._updated.set_text(f"{job.updated_at:%H:%M:%S}")


def add_usual_page(backend: Backend) -> None:
    """Add the page `/usual`."""

    @page(ADDRESS)
    async def usual_page() -> None:
        reader, cards = backend.queries.watch(by=current_user()), dict[str, UsualCard]()
        grid = ui.grid(columns=3)

        def show(view: View) -> None:
            for job in view.updates:
                if job.id not in cards:
                    with grid:
                        cards[job.id] = UsualCard(job)
                cards[job.id].show(job)

        async def follow() -> None:
            while True:
                show(await reader.next())

        show(await reader.next())
        following = background_tasks.create(follow(), name="usual page", context=context.client)
        context.client.on_delete(following.cancel)
