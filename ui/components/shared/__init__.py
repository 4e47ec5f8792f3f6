"""What every page uses: the banner, the frame, buttons, fields. The JavaScript modules are named here once.

NiceGUI knows a module by its path: the same path everywhere makes it load once.
"""

from __future__ import annotations

from pathlib import Path

_FOLDER = Path(__file__).parent
BROWSER_JS = _FOLDER / "browser.js"
COPY_BUTTON_JS = _FOLDER / "copy_button.js"
JOB_ACTIONS_JS = _FOLDER / "job_actions.js"
