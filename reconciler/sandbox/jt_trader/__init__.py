"""
The stand-in JT-Trader: speaks the real protocol, hazards included, and counts what was done.

Never kinder than the real server; the oracle of the tests.
"""
