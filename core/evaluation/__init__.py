"""Whether a map is to be believed: metrics, their chance levels, and the word that they come to."""
