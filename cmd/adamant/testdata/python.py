"""Write python.json: what Python's textwrap, repr and json make of some texts and values.

    python3 python.py > python.json
"""

import json
import random
import sys
import textwrap

WORDS = [
    "Readable", "Movable['float']", "a-b", "long-hyphenated-word", "x", "--flag", "e-mail", "well-known",
    "A-1", "1-a", "foo_bar-baz", "Movable['float | None', 'int']", "Literal['north-east', 'south-west']",
    "é-tude-noire", "Triggerable", "y" * 90, "supercalifragilistic-" * 6, "-", "a--b", "日本語-テキスト",
    "ophyd_async.core._protocol.AsyncReadable",
]
LINES = [
    "", "  ", "a b", "    four", "\ttab", "  two\ttab", " one", "\t  mixed", "text. ", "    four  ",
    "\x0c", "x\x0by", "é\u2028z", "crlf\r",
]
VALUES = [
    0, -1, 10**30, 1.0, 1e16, 1e15, 123456789012345678.0, 1e-4, 1e-5, 0.1, -0.0, 5e-324,
    1.7976931348623157e308, True, False, None, "", "text", "it's", 'say "x"', "both ' and \"",
    "tab\t nl\n cr\r bs\\", "\x00\x7f\x1b", "é日本", "\u200b\u00ad\u00a0", "😀\U000e0001", "\u2028",
    [], {}, [[]], {"": {}}, "\x08\x0c/",
]
NUMBERS = ["1E400", "-1e400", "1e5", "1.50", "-0", "1E-7", "100000000000000000000.0"]


def value(depth=0):
    kind = random.random()
    if depth < 3 and kind < 0.2:
        return [value(depth + 1) for _ in range(random.randint(0, 3))]
    if depth < 3 and kind < 0.4:
        keys = ["a", "b c", "é", "'", "\n", "z"]
        return {random.choice(keys) + str(i): value(depth + 1) for i in range(random.randint(0, 3))}
    return random.choice(VALUES)


def written(raw):
    v = json.loads(raw)
    return {"in": raw, "str": str(v), "repr": repr(v), "line": json.dumps(v), "lines": json.dumps(v, indent=2)}


def main(seed=1, count=25):
    random.seed(seed)
    cases = {"wrap": [], "text": [], "values": []}
    for _ in range(count):
        line = random.choice([", ", " ", ", ", "  "]).join(random.choices(WORDS, k=random.randint(0, 12)))
        width = random.choice([80, 80, 20, 30, 7])
        cases["wrap"].append({"in": line, "width": width, "out": textwrap.fill(line, width)})
        text = "\n".join(random.choices(LINES, k=random.randint(0, 6)))
        cases["text"].append({
            "in": text, "dedent": textwrap.dedent(text), "indent": textwrap.indent(text, "    "),
            "strip": text.strip(),
        })
    raws = [json.dumps(v, ensure_ascii=False, separators=(",", ":")) for v in VALUES]
    raws += [json.dumps(value(), ensure_ascii=False, separators=(",", ":")) for _ in range(count)]
    cases["values"] = [written(raw) for raw in raws + NUMBERS]
    json.dump(cases, sys.stdout, indent=1, ensure_ascii=False)
    print()


main(*map(int, sys.argv[1:]))
