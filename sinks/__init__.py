"""Where rows go: ClickHouse, the archive, Kafka. Nothing here computes."""
