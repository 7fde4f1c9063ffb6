"""Phrases that plain English does without, in texts of the command line and in the documentation."""

from __future__ import annotations

import re

PHRASES = re.compile(
    r"\b(?:so (?:many|long|few|much)\b(?! as)|(?:somebody|nobody|whoever|everybody|for ever|anew|dear|is told|are told"
    r"|has to say|go(?:es)? on|laid over|looks? after)\b)",
    re.IGNORECASE,
)
