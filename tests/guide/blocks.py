"""The guide's code, from `blocks.txt`."""

import re
from pathlib import Path

FILE = Path(__file__).with_name("blocks.txt")


def blocks() -> dict[str, str]:
    """The Python blocks, in order, by the headings above them."""
    text = FILE.read_text("utf-8")
    found = re.findall(r"^#+ ([^\n]+)\n\n```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    assert len(found) == text.count("```python"), "each block under a heading of its own"
    return dict(found)
