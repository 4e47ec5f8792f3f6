"""The machines that work on videos, for administrators."""

from __future__ import annotations

from functools import partial

from nicegui import context
from nicegui.element import Element

from backend import Backend
from backend.command import command
from backend.domain.texts import counted
from backend.errors import DashboardError, NotAllowed
from backend.executors.machines import Machine
from backend.executors.slots import Slots
from backend.settings import MAX_SLOTS
from ui.components.machines.machine_table import MachineTable, ending, headline
from ui.components.shared.number_field import NumberField
from ui.following import while_connected
from ui.frame import frame_of
from ui.session import act, current_user, page
from ui.theme import icon, link, tag

REFRESH_SECONDS = 0.5


def add_machines_page(backend: Backend) -> None:
    """Attach `/machines`."""

    @page("/machines")
    async def machines_page() -> None:
        user = current_user()
        if not user.is_admin:
            context.client.status_code = NotAllowed.status
        with frame_of(backend, "Machines", "machines", user):
            view = MachinesView(backend)
        view.refresh()
        while_connected(context.client, view.follow, name="machines")


class MachinesView:
    """The content of the page; it asks for the machines again and again, with the rights that the user has then."""

    def __init__(self, backend: Backend) -> None:
        self._machines, self._clock = backend.machines, backend.clock
        self._refused = tag("section", classes="empty").props("data-testid=refused")
        with self._refused:
            icon("lock")
            self._refusal = tag("h1")
            with tag("div", classes="act"):
                link("Dashboard", "/", classes="btn primary")
        with tag("div") as self._content:
            with tag("div", classes="lead"), tag("div"):
                tag("h1", "Machines")
                self._headline = tag("p")
            self._empty = _draw_empty()
            with tag("section", classes="panel") as self._panel:
                self._table = MachineTable(on_slots=self._set_slots, on_drain=self._drain)
            with tag("div", classes="note"):
                self._total = TotalField(backend.slots)
                tag("p", _explanation(is_alone=not backend.machines.keeps_changes))

    def refresh(self) -> None:
        """Show the machines as they are now, or that this user may not see them."""
        try:
            machines = self._machines.list(by=current_user())
        except DashboardError as error:
            self._show(refusal=error.sentence)
            return
        self._show()
        self._headline.text = headline(machines)
        self._table.show(machines)
        self._panel.set_visibility(bool(machines))
        self._empty.set_visibility(not machines)
        self._total.show(is_needed=self._machines.keeps_changes and bool(machines))

    async def follow(self) -> None:
        """Keep the page up to date, until cancelled."""
        while True:
            self.refresh()
            await self._clock.sleep(REFRESH_SECONDS)

    def _show(self, refusal: str = "") -> None:
        self._refusal.text = refusal
        self._refused.set_visibility(bool(refusal))
        self._content.set_visibility(not refusal)

    async def _set_slots(self, name: str, slots: int) -> None:
        change = self._machines.change(name, slots=slots, by=current_user())
        await act(change, said=lambda machine: f"{name}: {counted(machine.limit, 'video')} at once from now on")
        self.refresh()

    async def _drain(self, name: str, drain: bool) -> None:
        await act(self._machines.change(name, drain=drain, by=current_user()), said=partial(_said_of_drain, name))
        self.refresh()


class TotalField:
    """The field for the number of videos that run at once on all machines together, where there are several."""

    def __init__(self, slots: Slots) -> None:
        self._slots = slots
        self._field = NumberField(least=1, most=MAX_SLOTS, on_number=self._change)

    def show(self, *, is_needed: bool) -> None:
        """Show the number. Text that the user is typing stays."""
        self._field.set_visibility(is_needed)
        noun = "video" if self._slots.number == 1 else "videos"
        self._field.show(self._slots.number, f"{noun} at once on all machines together, at most")

    async def _change(self, slots: int) -> None:
        async def change() -> int:
            self._slots.change(slots, by=current_user())
            return self._slots.number

        await act(change(), said=lambda slots: f"{counted(slots, 'video')} at once from now on")


def _draw_empty() -> Element:
    with tag("section", classes="empty").props("data-testid=empty") as section:
        icon("cloud_off")
        tag("h2", "No machine is connected")
        tag("p", f"Videos wait until one is. Start one with {command('worker')} on a machine that sees the videos.")
    return section


def _explanation(*, is_alone: bool) -> str:
    drain = "A machine that drains ends its running videos and starts no further ones."
    if is_alone:
        return f"{drain} A change holds until the next start. Further machines need PostgreSQL."
    return f"{drain} A machine at rest failed videos for a cause of its own, and tries again after a while."


def _said_of_drain(name: str, machine: Machine) -> str:
    if not machine.is_draining:
        return f"{name} takes videos again"
    return f"{name} starts no further videos{ending(machine)}"
