"""
The controller's pages over HTTP, and the client that asks a running one.

Never shows a secret or a mask, and never acts.
"""
