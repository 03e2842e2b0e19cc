"""The steps before and after the route of every request."""
