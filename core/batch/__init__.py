"""Folders of any size: explained part by part, by one machine or many, to the same bytes."""
