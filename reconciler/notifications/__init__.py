"""
States become messages, and messages reach people.

Never delays a pass, repeats itself, or carries a secret.
"""
