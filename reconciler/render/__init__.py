"""How plans, reports and observations look: for people (text, Markdown) and for programs (JSON)."""
