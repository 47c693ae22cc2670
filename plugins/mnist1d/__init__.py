"""MNIST-1D, made here."""
