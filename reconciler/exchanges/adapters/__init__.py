"""
One file for each exchange: its own-key endpoint and what its answers mean.

Never asks anything but reads, and never lets an unknown permission pass.
"""
