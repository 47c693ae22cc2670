"""The built-in explainers and data sets, registered through entry points as any plugin's.

A plugin imports only what `whylens.__all__` names, and never another plugin.
"""
