"""The processes that serve: their start, their connections, their end."""
