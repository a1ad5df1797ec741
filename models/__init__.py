"""Numbers in, numbers out: scoring of text and, later, models. Nothing here knows of streams or stores."""
