"""The strings of the Big List of Naughty Strings through every text field (tests/naughty.py): each back as it was from the
audit log, or from where its kind is read, or refused by the name of its field."""

from collections import Counter
from typing import Final

from tests.acceptance.ledgers import running_ledger
from tests.acceptance.points import Shown, Stage
from tests.naughty import Altered, fields, naughty_strings, tried

FILE: Final = "corpora/naughty-strings/blns.json"
# Strings that one token of the administrator, which is good for ten minutes, asks about.
AT_ONCE: Final = 50


def run(stage: Stage) -> Shown:
    """Send each string through each field, and name whatever came back as another."""
    strings = naughty_strings(stage.corpus(FILE))
    strings = strings[: stage.scaled(len(strings))]
    outcomes: Counter[str] = Counter()
    wrong: list[str] = []
    names: set[str] = set()
    with running_ledger(stage) as ledger, ledger.served.client() as http:
        for first in range(0, len(strings), AT_ONCE):
            stage.progress("strings", first, len(strings))
            with ledger.served.admin() as admin:
                for field in fields(admin, http):
                    names.add(field.name)
                    for text in strings[first : first + AT_ONCE]:
                        try:
                            outcomes[tried(admin, field, text)] += 1
                        except Altered as altered:
                            wrong.append(str(altered))
        clean, verified = ledger.verify()
    back, refused = outcomes["back"], outcomes["refused"]
    figure = f"{back} back as they were, {refused} refused by the name of their field, {len(wrong)} neither"
    return Shown(
        f"{len(strings)} strings through {len(names)} text fields",
        f"{figure}; {verified}",
        held=not wrong and clean and bool(back),
        lines=tuple(wrong[:50]),
    )
