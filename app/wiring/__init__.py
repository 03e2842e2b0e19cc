"""The parts of create_app(): each puts together what belongs to one subject."""
