"""Keeps servers as their documents say, for months: watching, passes, health, notifications."""
