"""What the program is about, as pure values and rules: no clock, no database, no sockets, no framework."""
