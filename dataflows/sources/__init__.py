"""Where records come from: the archive and, later, Kafka."""
