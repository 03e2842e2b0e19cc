"""The parts of create_app(), one module for each subject."""
