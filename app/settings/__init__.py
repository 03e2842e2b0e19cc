"""How settings are declared, read and shown; which ones there are, says config.py."""
