"""From bytes to tensors: photos, signals, geometry."""
