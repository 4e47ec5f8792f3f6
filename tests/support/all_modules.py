"""Imports everything that the program may import."""

from __future__ import annotations

from importlib import import_module
from pkgutil import walk_packages


def import_all(*packages: str) -> None:
    """Import all modules of these packages but migrations, and those that are programs."""
    for package in map(import_module, packages):
        for module in walk_packages(package.__path__, f"{package.__name__}."):
            if not module.name.endswith("__main__") and ".migrations" not in module.name:
                import_module(module.name)
