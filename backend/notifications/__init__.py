"""Sends notifications to channels: webhooks, and the services that Apprise knows."""
