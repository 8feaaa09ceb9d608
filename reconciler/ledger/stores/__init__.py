"""
Where rows live: SQLite, Vault KV, memory.

Never knows what a row means; compare-and-set is all they promise.
"""
