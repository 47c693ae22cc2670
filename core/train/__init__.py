"""From a set of labelled pictures to a checkpoint that this project's page can load."""
