"""
How long ago something was, whatever the clock on the wall did meanwhile.

Within one boot of one machine a clock that never jumps tells; between machines only the wall does.
"""
