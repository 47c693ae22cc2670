"""The built-in explainers: one file each, found through the same entry points as strangers'.

A plugin imports only what `whylens.__all__` names, and never another plugin.
"""
