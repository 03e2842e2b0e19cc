"""The client in real hosts against the real service, and the table of the README that says how it went."""
