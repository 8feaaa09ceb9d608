"""
One Socket.IO conversation with one server: sockets, TLS, deadlines, the other clock.

Never sends by itself, never repeats, and never outlives its deadline in silence.
"""
