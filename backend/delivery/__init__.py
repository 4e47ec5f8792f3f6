"""How a change becomes visible: `journal` stores it, then `hub` shows it to its readers."""
