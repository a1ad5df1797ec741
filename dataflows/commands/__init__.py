"""The commands of `signalbox`, one module each; `dataflows.cli` parses and calls them."""
