"""Work on several machines, on PostgreSQL: the server hands runs over (`remote_runs`), workers run them (`worker`)."""
