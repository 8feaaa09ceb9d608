"""
Keeps servers as their documents say, for months: watching, passes, health, notifications.

Never lets one server wait for another, and never acts on an event: a pass looks for itself.
"""
