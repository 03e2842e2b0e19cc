"""The use cases: one class for each resource, and the Protocols of the stores that they need."""
