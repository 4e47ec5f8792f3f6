"""Lists of video IDs: from files to rows, and back to files."""
