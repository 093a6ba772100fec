"""Wycheproof's vectors of JOSE and those of the JOSE cookbook (RFC 7520), on the project's own verify and decrypt functions,
and one token in its several spellings, by their test (tests/test_jose.py).

A vector is accepted when our signature check or our decryption takes it, under whichever of our keys. None is a token of ours,
valid or not: of what is valid, most is of an algorithm, a key or a form that our profile does not have.
"""

from collections import Counter
from typing import Final

from tests.acceptance.points import Shown, Stage
from tests.acceptance.pytests import run_tests

FOLDERS: Final = ("vectors/jose-adversarial", "vectors/jose-cookbook")


def run(stage: Stage) -> Shown:
    """Run the tests, and count vectors and spellings by what became of them."""
    for folder in FOLDERS:
        stage.corpus(f"{folder}/SOURCE.txt")
    ran = run_tests(stage, "tests/test_jose.py")
    vectors: Counter[tuple[str, str, str]] = Counter()
    spellings: Counter[str] = Counter()
    for case in ran.cases:
        said = case.recorded
        if "vector" in said:
            vectors[said["vector"], said["result"], said["taken"]] += 1
        spellings.update({name: int(said[name]) for name in ("refused", "same") if name in said})
    figures = []
    for source in ("jose-adversarial", "jose-cookbook"):
        of_it = {(result, taken): count for (origin, result, taken), count in vectors.items() if origin == source}
        valid, invalid = (sum(count for (result, _), count in of_it.items() if result == r) for r in ("valid", "invalid"))
        figures.append(
            f"{source}: {valid} valid, {of_it.get(('valid', 'True'), 0)} of them in our profile and accepted,"
            f" {invalid} invalid, {of_it.get(('invalid', 'True'), 0)} accepted"
        )
    figures.append(
        f"{spellings.total()} other spellings of tokens: {spellings['refused']} refused, {spellings['same']} the same token"
    )
    wrong = sum(count for (_, result, taken), count in vectors.items() if result != "valid" and taken == "True")
    done = f"{vectors.total()} vectors of others, {len(ran.passed())} tests"
    figure = "; ".join(figures + ([ran.trouble] if ran.trouble else []))
    complete = all(any(origin == source for origin, _, _ in vectors) for source in ("jose-adversarial", "jose-cookbook"))
    return Shown(done, figure, held=complete and bool(spellings) and not wrong and not ran.trouble)
