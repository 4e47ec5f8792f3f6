"""Users, passwords, sessions, tokens and sign-in links; `accounts.Accounts` is the entry point."""
