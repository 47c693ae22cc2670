"""The screens: the page, built from the registry, and the command line.

Only here and in demo.py may gradio be imported; explainers are known only through the registry.
"""
