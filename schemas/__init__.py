"""Nouns: records, tables, feature specifications, enumerations, errors and time.

Nothing here knows of Bytewax, Kafka or ClickHouse; every other package may import from here.
"""
