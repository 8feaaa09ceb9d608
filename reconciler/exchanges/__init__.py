"""
Asks an exchange what an API key may do: changes nothing, anywhere.

`fetch` of an adapter is the only I/O; `parse` turns documented answers into `KeyFacts`, and `judge`
compares facts with what the documents want.  Facts, not verdicts, are remembered.

Never calls right what is not known.
"""
