"""
The operator's settings file and environment become a Settings value.

Never reads desired state, and never opens what it names.
"""
