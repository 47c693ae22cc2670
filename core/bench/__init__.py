"""A benchmark of methods on inputs whose evidence is known."""
