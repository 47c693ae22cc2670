"""Work in processes that can be killed: for whoever serves many and must outlive a bad plugin."""
