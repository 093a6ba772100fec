"""Rules: who may call which methods on which paths, with what clearance. A rule is its content: granted twice it is one."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal
from uuid import UUID

from ledger.errors import InvalidInput
from ledger.identifiers import name_id
from ledger.paths import Template
from ledger.states import Effect, RuleOfApi, RuleOfRole

MAX_CLEARANCE: Final = 100
MAX_METHODS: Final = 16
METHOD: Final = re.compile(r"[A-Z][A-Z0-9!#$%&'*+.^_`|~-]{0,31}", re.ASCII)
_LINE: Final = re.compile(r"(allow|deny)\s+(\S+)\s+(\S+)(?:\s+clearance\s+(\d{1,9}))?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Rule:
    """A checked rule. Methods are sorted; ("*",) means every method. A deny has no clearance."""

    effect: Effect
    methods: tuple[str, ...]
    path: str
    min_clearance: int | None

    @classmethod
    def make(
        cls,
        effect: Literal["allow", "deny"],
        methods: Sequence[str],
        path: str,
        min_clearance: int | None = None,
        field: str = "",
    ) -> "Rule":
        """Check a rule. InvalidInput names the member (below `field`) and its rule."""
        prefix = f"{field}." if field else ""
        # Only ASCII has an upper case here: a long s is no way to write POST.
        wanted = tuple(sorted({method.upper() if method.isascii() else method for method in methods}))
        if not wanted or len(wanted) > MAX_METHODS or any(m != "*" and METHOD.fullmatch(m) is None for m in wanted):
            raise InvalidInput.of(f"{prefix}methods", f"1 to {MAX_METHODS} HTTP methods, or *")
        if "*" in wanted:
            wanted = ("*",)
        Template.parse(path, f"{prefix}path")
        if effect == "deny":
            if min_clearance is not None:
                raise InvalidInput.of(f"{prefix}min_clearance", "a deny has none")
        else:
            min_clearance = min_clearance or 0
            if not 0 <= min_clearance <= MAX_CLEARANCE:
                raise InvalidInput.of(f"{prefix}min_clearance", f"0 to {MAX_CLEARANCE}")
        return cls(effect, wanted, path, min_clearance)

    @classmethod
    def parse(cls, line: str, field: str = "rule") -> "Rule":
        """Read `allow GET,POST /orders/** clearance 3`. InvalidInput names `field`."""
        found = _LINE.fullmatch(line.strip())
        if found is None:
            raise InvalidInput.of(field, "allow|deny METHOD[,METHOD...] /path [clearance N]")
        effect, methods, path, clearance = found.groups()
        return cls.make(
            "deny" if effect == "deny" else "allow", methods.split(","), path, int(clearance) if clearance else None, field
        )

    def line(self) -> str:
        """Answer the rule as a line that `parse` reads."""
        clearance = f" clearance {self.min_clearance}" if self.min_clearance else ""
        return f"{self.effect} {','.join(self.methods)} {self.path}{clearance}"

    @property
    def rule_id(self) -> UUID:
        """The id made from the content: the same rule of another role has the same."""
        return name_id("rule", self.line())

    def of_role(self) -> RuleOfRole:
        """Answer the rule as it stands in events of a role."""
        return RuleOfRole(self.rule_id, self.effect, self.methods, self.path, self.min_clearance)

    def of_api(self, api_id: UUID) -> RuleOfApi:
        """Answer the rule as a subject's own for one API; the id tells the API's."""
        rule_id = name_id("rule", self.line(), str(api_id))
        return RuleOfApi(rule_id, api_id, self.effect, self.methods, self.path, self.min_clearance)
