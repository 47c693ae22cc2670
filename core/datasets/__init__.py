"""Sets of labelled pictures or signals: folders, archives, and what plugins offer by name."""
