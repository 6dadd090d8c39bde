"""Everything that speaks to Kafka; the only importers of ``confluent_kafka``."""
