"""Parts to play with on loopback: a stand-in JT-Trader that is also the oracle of our tests."""
