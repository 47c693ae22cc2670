"""Folders of any size: explained shard by shard, by one machine or many, to the same bytes."""
