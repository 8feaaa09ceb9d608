"""
JT-Trader's events and payloads, and our nouns for them.

Never sends what could fail there: one failing request stops every robot.
"""
