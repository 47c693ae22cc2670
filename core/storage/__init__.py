"""What lies on disk and in memory: files, artifacts, caches."""
