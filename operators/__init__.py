"""Verbs on streams: each module is one operator, a pure state over arrays behind a thin Bytewax logic."""
