"""What becomes of results: pictures, files, figures."""
