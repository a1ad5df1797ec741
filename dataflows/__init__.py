"""Sentences made of the verbs: the shared graph, replay and demo, sources, settings and the command line."""
