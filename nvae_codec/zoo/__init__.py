"""The installed models: found by name, path or identity, and loaded."""
