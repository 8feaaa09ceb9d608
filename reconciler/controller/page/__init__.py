"""
The page for people: a fleet at a glance, one server side by side, live, and read only.

Never shows a value or a mask, never sends anything to a server, and never keeps a pass waiting.
"""
