"""
YAML text becomes a DesiredState, with every problem at its line; and requests are edited in.

Never reads settings, contacts anything, or guesses what somebody meant.
"""
