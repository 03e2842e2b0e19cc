"""What goes in and out as JSON, and in query strings and headers."""
