"""The ways to send a message, by the kind of the channel."""

from __future__ import annotations

from typing import Protocol

from backend.domain.notification import Channel, ChannelKind
from backend.domain.sending import Receipt
from backend.notifications.apprise import Apprise
from backend.notifications.guard import Guard, web_address
from backend.notifications.messages import Message
from backend.notifications.webhook import Webhooks

PORTS = {"http": 80, "https": 443}


class Sender(Protocol):
    """Sends a message once."""

    async def send(self, channel: Channel, message: Message) -> Receipt:
        """Send, and return what came of it. Never raises because of the receiver."""


class Senders:
    """Sends to webhooks, and through Apprise."""

    def __init__(self, guard: Guard, webhooks: Webhooks, apprise: Apprise) -> None:
        self._guard = guard
        self._webhooks = webhooks
        self._apprise = apprise

    async def send(self, channel: Channel, message: Message) -> Receipt:
        if channel.kind is ChannelKind.WEBHOOK:
            return await self._webhooks.post(channel.url, channel.secret, message.event_id, message.body)
        return await self._apprise.send(channel.url, message.title, message.text)

    async def check(self, kind: ChannelKind, url: str) -> None:
        """Raise `Invalid` for an address that cannot be used, or may not be called."""
        if kind is ChannelKind.APPRISE:
            await self._apprise.check(url)
            return
        parts = web_address(url)
        await self._guard.check(parts.hostname or "", parts.port or PORTS[parts.scheme])

    async def close(self) -> None:
        """End all connections and processes."""
        await self._webhooks.close()
        await self._apprise.close()
