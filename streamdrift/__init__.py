"""streamdrift: online drift detection for the models behind Kafka topics."""

__version__ = "0.1.0"
