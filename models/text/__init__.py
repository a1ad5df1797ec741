"""Text in, numbers out: the sentiment of headlines and posts about listed companies."""
