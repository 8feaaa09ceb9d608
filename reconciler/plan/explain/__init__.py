"""
Why a line is in a plan, or why nothing is done: all conditions, whether each holds, since when.

The plan's own line is the conclusion.  What is asked here is what the planner asks, by the same
functions; a property test holds that the two never disagree.  Pure.
"""
