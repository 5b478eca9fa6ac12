"""pmem: LLM personalisation from JSONL streams."""

__version__ = "0.1.0"
