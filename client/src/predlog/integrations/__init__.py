"""One module for each host: import the one of yours, as `from predlog.integrations.flask import Predlog`.

This package imports none of them, so the client needs nothing but the standard library.
"""
