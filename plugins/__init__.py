"""The built-in explainers: one file each, found through the same entry points as strangers'.

A plugin imports from `core` only what `core.__all__` names, and never another plugin.
"""
