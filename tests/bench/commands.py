"""What a command costs: `python -m tests.bench.commands [rounds]`, beside `python -c pass` in the same rounds.

Each round runs every command once against a running server. The figures are the least CPU seconds (user and system) of
the rounds, which other load disturbs least.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests import ROOT
from tests.bench.measure import load, row
from tests.support.servers import environment, run_command, running

ROUNDS = 7
AIM = 20.0
WIDTHS = (24, 8, 8)
REFERENCE = "python -c pass"


def cpu_seconds(arguments: Sequence[str], settings: Mapping[str, str]) -> float:
    """Return the CPU seconds of one run of Python with these arguments, whatever its exit code."""
    process = subprocess.Popen(
        [sys.executable, *arguments], cwd=ROOT, env=settings, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    _, _, used = os.wait4(process.pid, 0)
    process.returncode = 0  # it was reaped here
    return used.ru_utime + used.ru_stime


def command_lines(data_dir: Path) -> dict[str, list[str]]:
    """Return the arguments of Python for each command, by what is shown; creates the job that they are about."""
    csv = data_dir / "list.csv"
    csv.write_text("id\nno-such-clip\n", encoding="utf-8")
    job = run_command("submit", str(csv), data_dir=data_dir).stdout.strip()
    run_command("watch", job, data_dir=data_dir)  # until it has ended
    without_data = {shown: shown.split() for shown in ("--version", "--help", "pause --help")}
    with_data = {
        **{shown: shown.split() for shown in ("users list", "token admin", "login-link")},
        **{f"{name} JOB": [name, job] for name in ("pause", "retry", "export", "watch")},
        "submit FILE.csv": ["submit", str(csv)],
    }
    lines = without_data | {shown: [*words, "--data-dir", str(data_dir)] for shown, words in with_data.items()}
    return {REFERENCE: ["-c", "pass"], **{shown: ["main.py", *words] for shown, words in lines.items()}}


def main(rounds: int) -> None:
    """Print the least CPU seconds of each command, and their ratio to the reference."""
    print(load())
    settings = environment({})
    with tempfile.TemporaryDirectory() as directory, running(Path(directory)):
        lines = command_lines(Path(directory))
        seconds: dict[str, list[float]] = {shown: [] for shown in lines}
        for number in range(rounds):
            for shown in lines if number % 2 else reversed(lines):
                seconds[shown].append(cpu_seconds(lines[shown], settings))
    reference = min(seconds[REFERENCE])
    row("command", "CPU s", "ratio", widths=WIDTHS)
    for shown, taken in seconds.items():
        row(shown, f"{min(taken):.3f}", f"{min(taken) / reference:.1f}", widths=WIDTHS)
    print(f"aim: each at most {AIM:.0f} x {REFERENCE}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS)
