"""
The story that `jtr demo` tells, each step proven at the stand-in.

Never claims what the other side did not count.
"""
