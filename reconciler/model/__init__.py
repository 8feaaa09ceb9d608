"""
Values only: what is desired, observed, remembered, planned and what became of it.

Everything else speaks in these words.  Never I/O, a clock, logging, or an import of another room.
"""
