"""
What we ask of the operating system: clocks, files, signals, logging, HTTP, the console.

Never knows a document, a server or a plan.
"""
