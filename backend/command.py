"""The command line that this program was started with, for messages that name a command."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import PurePath

SCRIPT = "progress-dashboard"


def command(arguments: str = "", *, argv: Sequence[str] | None = None) -> str:
    """Return the command with these arguments, as the user started the program (`argv`, by default the process's own).

    >>> command("users list", argv=["main.py"]), command("users list", argv=["/usr/bin/progress-dashboard"])
    ('python main.py users list', 'progress-dashboard users list')
    >>> command(argv=["/usr/lib/python3/site-packages/ui/__main__.py"])
    'python -m ui'
    """
    started = PurePath((sys.argv if argv is None else argv)[0])
    if started.stem == SCRIPT:
        program = SCRIPT
    else:
        program = "python -m ui" if started.name == "__main__.py" and started.parent.name == "ui" else "python main.py"
    return f"{program} {arguments}".rstrip()
