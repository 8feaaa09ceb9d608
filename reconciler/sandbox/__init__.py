"""
Parts to play with on loopback: a stand-in JT-Trader that is also the oracle of our tests.

Never reaches anything but loopback, and is never kinder than what it stands for.
"""
