"""
Histories of two servers, two documents and two processes of ours, and a judge of all of it.

`documents` is what people write, `processes` what we do and how it dies, `judge` what must never
happen, `environment` all of it in one place, `play` what a history is, how it is carried out and
how it ends.  The judge knows the documents and what the stand-ins record, never our ledger.
"""
