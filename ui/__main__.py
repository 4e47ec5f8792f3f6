"""`python -m ui`: the same as `python main.py` where there is no checkout."""

from ui.cli import main

if __name__ == "__main__":  # the native window's process imports this module again
    main()
