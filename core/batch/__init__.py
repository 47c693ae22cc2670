"""Folders of any size: explained part by shard, by one machine or many, to the same bytes."""
