"""The version of the service, read here by the package's metadata as well."""

__version__ = "0.2.0"
