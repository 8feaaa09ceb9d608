"""
The operator's policy: which document may have which secret sent where, and who may stop what.

Reads one file of the operator and judges documents by it; contacts nothing.
It must never read the desired-state tree for authority, and never trust a name or a label.
"""
