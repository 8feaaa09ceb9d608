"""
Looks at one server, resolves its references, and builds what the planner judges.

Never changes a server.
"""
