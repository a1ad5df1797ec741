"""Features of text streams: sentiment, intensity, novelty, buzz, and what damps posts."""
