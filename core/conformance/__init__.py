"""The conformance tests: what every explainer owes, whoever wrote it, on networks known exactly.

Nothing here knows a method: which test applies to whom follows from what the explainer declares and
from what it answers with.
"""
