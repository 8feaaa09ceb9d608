"""
How plans, reports and observations look: for people (text, Markdown) and for programs (JSON).

Never decides, and never lets foreign text reach a terminal as it came.
"""
