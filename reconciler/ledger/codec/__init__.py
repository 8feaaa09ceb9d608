"""
What the ledger remembers as JSON documents, and back, strictly.

Never guesses: a row that is not exactly right is an error that names it.
"""
