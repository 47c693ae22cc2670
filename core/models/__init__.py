"""Networks by name: found, verified, loaded, split into features and head, and probed."""
