"""
Stand-in exchanges on loopback, which check signatures.

Never reach anything but loopback.
"""
