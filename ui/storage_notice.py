"""Says on all open pages that nothing can be stored, for as long as that is so."""

from __future__ import annotations

from nicegui import Client

from backend.delivery.journal import Journal
from ui.components.shared.connection_banner import ConnectionBanner


def storage_notice(journal: Journal) -> str:
    """Return what a page says about the database now; "" while the data can be stored."""
    refusal = journal.refusal
    if refusal is None:
        return ""
    return f"{refusal.partition(';')[0]}. Running videos continue, new ones wait; all goes on by itself."


async def show_refusals(journal: Journal) -> None:
    """Tell all open pages when the database refuses things, and when it takes them again."""
    while True:
        await journal.until_refusing()
        _tell(storage_notice(journal))
        await journal.until_storing()
        _tell(storage_notice(journal))


def _tell(notice: str) -> None:
    for banner in _banners():
        banner.say(notice)


def _banners() -> list[ConnectionBanner]:
    return [
        element
        for client in list(Client.instances.values())
        for element in list(client.elements.values())
        if isinstance(element, ConnectionBanner)
    ]
