"""
What a CI system says of a job, and what its forge is told: comments and statuses.

Never decides, never takes an address from anywhere but the job's environment, and never shows or
keeps a token.
"""
