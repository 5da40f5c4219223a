"""Configuration: manifests -> objects -> one compiled Snapshot, and what to tell the user about each object."""
