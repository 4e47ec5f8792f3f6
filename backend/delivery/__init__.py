"""How a change becomes visible: `journal` stores it, then `hub` hands it to whoever reads."""
