"""
Acts: the only code that changes a server.

Never decides what is wanted, and never sends twice what has no known outcome.
"""
