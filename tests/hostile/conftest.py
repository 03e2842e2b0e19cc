"""What hostile callers may send."""

import sys

# schemathesis wants Python 3.11.
collect_ignore = ["test_contract.py"] if sys.version_info < (3, 11) else []
