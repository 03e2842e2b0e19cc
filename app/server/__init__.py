"""The processes of the service: their start, their connections, their end."""
