"""A Hugging Face Space: its files, checks and GPU."""
