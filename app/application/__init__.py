"""What the service can do: one class a resource, no class a verb."""
