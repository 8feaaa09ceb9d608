"""
Decides: desired x observed x remembered becomes a Plan.

Pure: never does I/O, asks no clock, sees no value of a secret and no mask.
"""
