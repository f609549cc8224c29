"""Balancing the complexity of content and degradation: find the experiment that generalises best, within bounds.

`space` says what is tried and on what it is judged, `search` tries it, `predict` guesses from complexity alone, and
`record` holds what was found, without torch. docs/balance.md tells how to use it and what it has achieved.
"""
