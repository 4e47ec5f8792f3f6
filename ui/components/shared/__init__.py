"""The components that every page uses: banner, frame, buttons, fields. Their JavaScript modules are named here once.

NiceGUI identifies a module by its path, so the same path everywhere loads it once.
"""

from __future__ import annotations

from pathlib import Path

_FOLDER = Path(__file__).parent
BROWSER_JS = _FOLDER / "browser.js"
COPY_BUTTON_JS = _FOLDER / "copy_button.js"
WORDS_JS = _FOLDER / "words.js"
JOB_ACTIONS_JS = _FOLDER / "job_actions.js"
NOTICES_JS = _FOLDER / "notices.js"
BROWSER_NOTICES_JS = _FOLDER / "browser_notices.js"
TELL_ME_JS = _FOLDER / "tell_me.js"
SELECTION_JS = _FOLDER / "selection.js"
BULK_BAR_JS = _FOLDER / "bulk_bar.js"
STACK_TRACE_JS = _FOLDER / "stack_trace.js"
