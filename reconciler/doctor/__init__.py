"""
Probes look (I/O); judgements say what is amiss and what to do (pure).

Never changes anything, and never reads the value of a secret.
"""
