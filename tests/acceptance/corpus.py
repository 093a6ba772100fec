"""The routes and permissions of the GitHub REST API, as one API of the ledger, asked for row by row.

The corpus (corpora/github-permissions, see its SOURCE.txt) says the same thing twice, and not quite alike:

    paths        440 rows: a method, a path, and the one permission and access level that it needs
    permissions  for each permission and level the routes it opens; many routes stand under several permissions

How it is read here. A row of `paths` is what is asked about. It is open to whoever has its permission at its level or a
higher one (admin, write, read), or another permission that lists it: permissions are alternatives, never needed together.
So there is a role for each permission and level (`contents.write`), with a rule for each of its routes, and the rules of a
level hold those of the levels below. "The right role" is each role that a row is in, alone in the hands of a subject. "A
subject without it" holds every other role of the API, save those that let the request pass by another row: a rule is a
template, and `/repos/{owner}/{repo}/{archive_format}/{ref}` takes most GETs of as many segments.

Two paths are not plain templates. `{base}...{head}` is one of ours (text between two parameters in a segment).
`readme(?:/(.*))?` is a regular expression: `readme` and, as a second rule, `readme/**`; both are asked about. `{path}` is one
segment here, as OpenAPI has it. Parameters are filled with names as people choose them, percent-encoded where they must be.

Every question is asked twice: as AuthZEN has it, and as a request to an API behind a real nginx (deploy/nginx.conf), which
passes it with status 200 to the API, or answers 403 without the API having been asked.
"""

import asyncio
import json
import re
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, Final
from urllib.parse import quote

import httpx

from tests.acceptance.ledgers import running_ledger
from tests.acceptance.points import FellShort, Shown, Stage
from tests.acceptance.writing import STRATEGIES
from tests.calls import App, bearer, new_api, new_client, ok, resource_server
from tests.nginx import NGINX, Api, running_api, running_nginx
from tests.serving import NO_TLS

FILE: Final = "corpora/github-permissions/api.github.com.json"
LEVELS: Final = ("read", "write", "admin")
OPTIONAL_REST: Final = "(?:/(.*))?"
# In a path, one after the other, for its parameters.
NAMES: Final = ("octo-cat", "Hello World", "v1.0.0-rc.1", "größe", "a~b!c", "42", "feature:x,y", "it's", "@me", "…")
CONNECTIONS: Final = 32


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the corpus: a request line with its template."""

    method: str
    path: str

    def templates(self) -> tuple[str, ...]:
        """Answer the row's path as templates of ours."""
        if self.path.endswith(OPTIONAL_REST):
            plain = self.path.removesuffix(OPTIONAL_REST)
            return plain, f"{plain}/**"
        return (self.path,)


@dataclass(frozen=True, slots=True)
class Question:
    """May whoever holds exactly these roles call this? `names`: the role that an answer of yes must name."""

    method: str
    segments: tuple[str, ...]
    roles: frozenset[str]
    names: str | None

    def target(self) -> str:
        """Answer the path as it is requested."""
        return "/" + "/".join(quote(segment, safe="~!:,'@") for segment in self.segments)


def roles_of(corpus: Mapping[str, Any]) -> dict[str, set[Row]]:
    """Answer the rows of every role."""
    levels: dict[tuple[str, str], set[Row]] = defaultdict(set)
    for path, methods in corpus["paths"].items():
        for method, needed in methods.items():
            levels[needed["permission"], needed["access"]].add(Row(method, path))
    for permission, by_level in corpus["permissions"].items():
        for level in by_level.keys() & set(LEVELS):
            levels[permission, level] |= {Row(*route.split(" ", 1)) for route in by_level[level]}
    return {
        f"{permission}.{level}": set().union(*(levels[permission, below] for below in LEVELS[: LEVELS.index(level) + 1]))
        for permission, level in list(levels)
    }


def questions(rows: Sequence[Row], roles: Mapping[str, set[Row]]) -> list[Question]:
    """Answer, for every row, a question for each right role and one for everybody else."""
    asked = []
    names = count()
    for row in rows:
        for segments in _requests(row, names):
            right = [role for role, held in roles.items() if row in held]
            asked += [Question(row.method, segments, frozenset([role]), role) for role in right]
            passing = {role for role, held in roles.items() if any(_takes(other, row.method, segments) for other in held)}
            asked.append(Question(row.method, segments, frozenset(roles.keys() - passing), None))
    return asked


def _requests(row: Row, names: "count[int]") -> list[tuple[str, ...]]:
    """Answer the segments of requests of a row, in clear."""

    def filled(template: str) -> tuple[str, ...]:
        return tuple(re.sub(r"\{\w+\}", lambda _: NAMES[next(names) % len(NAMES)], part) for part in template[1:].split("/"))

    plain, *rest = row.templates()
    return [filled(plain), *(filled(template.removesuffix("**") + "{a}/{b}") for template in rest)]


def _takes(row: Row, method: str, segments: tuple[str, ...]) -> bool:
    """Say whether a row takes a request; the naive reading of templates, made for this file."""
    if row.method != method:
        return False
    pattern = "".join(
        "[^/]+" if part.startswith("{") else re.escape(part)
        for part in re.split(r"(\{\w+\})", row.path.removesuffix(OPTIONAL_REST))
    )
    rest = "(?:/.*)?" if row.path.endswith(OPTIONAL_REST) else ""
    return re.fullmatch(pattern + rest, "/" + "/".join(segments), re.DOTALL) is not None


# -------------------------------------------------------------------------------------------------------------- asking

Tokens = Mapping[tuple[str, frozenset[str]], str]
Ask = Callable[[httpx.AsyncClient, Question, str], Awaitable[str | None]]


def run(stage: Stage) -> Shown:
    """Load the corpus, ask all its questions with tokens of every strategy, and ask again through nginx."""
    corpus = json.loads(stage.corpus(FILE).read_text())
    if NGINX is None:
        raise FellShort("nginx is not installed")
    rows = [Row(method, path) for path, methods in corpus["paths"].items() for method in methods]
    roles = roles_of(corpus)
    asked = questions(rows, roles)
    probes = [(question, strategy) for strategy in STRATEGIES for question in asked]
    yes = sum(question.names is not None for question, _ in probes)
    with running_ledger(stage) as ledger:
        with ledger.served.admin() as admin:
            api = _load(stage, admin, roles)
            asker = resource_server(admin, api)
            tokens = tokens_of(stage, admin, api, asked)
        wrong, seconds = ask_all(stage, "decisions", ledger.served.url, probes, tokens, evaluation(asker))
        assert asker.secret is not None
        with running_api() as port, running_nginx(stage.folder, ledger.served.url, asker.secret, port) as url:
            began = len(Api.asked)
            more, seconds_behind = ask_all(stage, "through nginx", url, probes, tokens, _through_nginx)
            reached = len(Api.asked) - began
    wrong += [f"nginx: {what}" for what in more]
    if reached != yes:
        wrong.append(f"{reached:,} requests reached the API behind nginx, not {yes:,}")
    done = f"{len(rows)} rows as {len(roles)} roles of one API, asked about over 2 workers with {len(STRATEGIES)} strategies"
    if wrong:
        return Shown(done, f"{len(wrong):,} of {2 * len(probes):,} answers wrong: {'; '.join(wrong[:5])}", held=False)
    figure = (
        f"{len(probes):,} decisions ({yes:,} by a right role, all allowed; {len(probes) - yes:,} by all others together,"
        f" all denied), {len(probes) / seconds:,.0f}/s; the same through nginx, {len(probes) / seconds_behind:,.0f}/s"
    )
    return Shown(done, figure)


def _load(stage: Stage, admin: httpx.Client, roles: Mapping[str, set[Row]]) -> str:
    """Register the API with its roles and rules, and answer its name."""
    stage.progress("loading the corpus", 0, None)
    return new_api(
        admin,
        {
            role: sorted(f"allow {row.method} {template}" for row in held for template in row.templates())
            for role, held in roles.items()
        },
        name="github",
    )


def tokens_of(stage: Stage, admin: httpx.Client, api: str, asked: Sequence[Question]) -> Tokens:
    """Register a subject for each set of roles that a question needs, and answer its token of each strategy."""
    tokens = {}
    apps = {
        strategy: new_client(admin, grants=["issue"], strategy=strategy, refresh="off", apis=[api]) for strategy in STRATEGIES
    }
    holders = list(dict.fromkeys(question.roles for question in asked))
    for number, roles in enumerate(holders):
        stage.progress("issuing tokens", number, len(holders))
        subject_id = ok(admin.post("/v1/subjects", json={"kind": "service"}), 201)["subject_id"]
        if roles:
            ok(admin.post(f"/v1/subjects/{subject_id}/roles", json={"roles": [f"{api}:{role}" for role in sorted(roles)]}))
        for strategy, app in apps.items():
            # As the issuer itself, not as the administrator whose token the client carries.
            request = admin.build_request("POST", "/v1/tokens", json={"subject_id": subject_id, "lifetime_seconds": 3600})
            del request.headers["Authorization"]
            issued = ok(admin.send(request, auth=app.auth), 201)
            tokens[strategy, roles] = issued["access_token"]
    return tokens


def evaluation(asker: App) -> Ask:
    """Answer how a decision is asked for; what it answers is what is wrong with it, or None."""

    async def ask(http: httpx.AsyncClient, question: Question, token: str) -> str | None:
        body = {
            "subject": {"type": "token", "id": token},
            "action": {"name": question.method},
            "resource": {"type": "route", "id": question.target()},
        }
        answer = await http.post("/access/v1/evaluation", json=body, auth=asker.auth)
        if answer.status_code != 200:
            return f"{answer.status_code} {answer.text[:100]}"
        said = answer.json()
        context = said["context"]
        if question.names is None:
            right = (said["decision"], context["reason"]) == (False, "no_rule")
        else:
            right = said["decision"] is True and context["rule"]["role"] == question.names
        return None if right else f"{said['decision']}, {context['reason']} {context.get('rule')}"

    return ask


async def _through_nginx(http: httpx.AsyncClient, question: Question, token: str) -> str | None:
    """Send the request itself; answer what is wrong with what came back, or None."""
    # The target as it is, not as httpx would write it.
    url = http.base_url.copy_with(raw_path=question.target().encode())
    answer = await http.request(question.method, url, headers=bearer(token))
    if question.names is None:
        return None if answer.status_code == 403 else f"{answer.status_code}, not 403"
    if answer.status_code != 200:
        return f"{answer.status_code}, not 200"
    got = answer.json()
    return None if (got["method"], got["target"]) == (question.method, question.target()) else f"the API got {got['target']}"


def ask_all(
    stage: Stage, what: str, url: str, probes: Sequence[tuple[Question, str]], tokens: Tokens, ask: Ask
) -> tuple[list[str], float]:
    """Ask over many connections at once, and answer what is wrong and the seconds it took."""
    left = iter(probes)
    done = count(1)
    wrong: list[str] = []
    limits = httpx.Limits(max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS)

    async def asking(http: httpx.AsyncClient) -> None:
        for question, strategy in left:
            said = await ask(http, question, tokens[strategy, question.roles])
            if said is not None:
                holder = question.names or "without it"
                wrong.append(f"{strategy} {question.method} {question.target()} {holder}: {said}")
            stage.progress(what, next(done), len(probes))

    async def asking_together() -> None:
        async with httpx.AsyncClient(base_url=url, timeout=30, limits=limits, verify=NO_TLS) as http:
            await asyncio.gather(*(asking(http) for _ in range(CONNECTIONS)))

    began = time.monotonic()
    asyncio.run(asking_together())
    return wrong, time.monotonic() - began
