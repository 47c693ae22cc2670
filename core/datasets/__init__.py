"""Sets of labelled pictures: folders of photos and painted worlds whose evidence is known."""
