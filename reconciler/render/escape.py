"""
Make text from servers, secrets' names and files safe to show on a terminal, on one line.
"""

import unicodedata

_UNSAFE = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def plain(text: str, limit: int = 200) -> str:
    """
    Return *text* without anything that could drive a terminal or fake another line.

    Control, format (right-to-left marks among them), surrogate and unassigned characters become
    escapes; longer text than *limit* is cut.
    """
    if len(text) <= limit and text.isprintable():  # no such character is unsafe
        return text
    shown = "".join(
        f"\\u{ord(c):04x}" if unicodedata.category(c) in _UNSAFE else c for c in text[: limit + 1]
    )
    return shown if len(text) <= limit else shown[:limit] + "…"
