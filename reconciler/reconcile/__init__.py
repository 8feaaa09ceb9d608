"""
One pass: observe, plan, apply and remember, composed for a whole fleet.

Never decides by itself, and never speaks to a server or a store directly.
"""
