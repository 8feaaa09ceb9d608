"""Run crypto trading servers from Git: desired state in YAML, keys in Vault, no harm done."""

__version__ = "0.1.0"
