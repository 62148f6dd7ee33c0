"""The specification's document as data: its tables of parameters and its JSON examples."""

import ast
import json
import re
from pathlib import Path

DOCUMENT = (Path(__file__).resolve().parent / "spec/maskact_configuration.md").read_text(encoding="utf-8")

# name -> (type, default)
TABLE = {
    name: (kind, ast.literal_eval(default.strip("`")))
    for name, kind, default in re.findall(r"^\| `(\w+)` \| ([^|]+?) \| ([^|]+?) \|", DOCUMENT, re.MULTILINE)
}
EXAMPLES = [json.loads(block) for block in re.findall(r"```json\n(.*?)```", DOCUMENT, re.DOTALL)]
