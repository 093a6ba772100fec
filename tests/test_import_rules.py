"""Given an OpenAPI document, then roles with rules and what was found on the way, or a refusal that names the place."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.errors import InvalidInput
from ledger.openapi import By, Proposal, propose
from ledger.paths import Matcher, Template
from ledger.rules import Rule
from tests.contract import DOCUMENT

NEEDS_READ: dict[str, Any] = {"security": [{"oauth": ["read"]}]}
NEEDS_WRITE: dict[str, Any] = {"security": [{"oauth": ["write"]}]}


def document(paths: dict[str, Any], **others: Any) -> dict[str, Any]:
    return {"openapi": "3.1.0", "info": {"title": "Pets", "version": "1"}, "paths": paths} | others


def found(proposal: Proposal) -> list[tuple[str, str]]:
    return [(finding.kind, finding.about) for finding in proposal.findings]


def problems(value: object, by: By = "scopes", **options: Any) -> list[tuple[str, str]]:
    with pytest.raises(InvalidInput) as refused:
        propose(value, by, **options)
    return [(problem.field, problem.rule) for problem in refused.value.problems]


# ---------------------------------------------------------------------------------------------------------------- roles


def test_a_scope_is_a_role_and_what_needs_it_is_its_rules() -> None:
    proposal = propose(
        document({"/pets": {"get": NEEDS_READ, "post": NEEDS_WRITE}, "/pets/{id}": {"get": NEEDS_READ}}), "scopes"
    )
    assert proposal.roles() == {"read": ["allow GET /pets", "allow GET /pets/{id}"], "write": ["allow POST /pets"]}
    assert proposal.findings == ()


@pytest.mark.parametrize("version", ["3.0.0", "3.0.4", "3.1.0", "3.1.1"])
def test_versions_3_0_and_3_1_are_read(version: str) -> None:
    assert propose(document({"/pets": {"get": NEEDS_READ}}, openapi=version), "scopes").roles() == {"read": ["allow GET /pets"]}


@pytest.mark.parametrize("version", [{"swagger": "2.0"}, {"openapi": "3.2.0"}, {"openapi": "2.0"}, {"openapi": 3.1}, {}])
def test_another_version_is_refused(version: dict[str, Any]) -> None:
    ((field, rule),) = problems({"paths": {}} | version)
    assert (field, "3.0 or 3.1" in rule) == ("openapi", True)


def test_security_of_the_whole_document_is_that_of_operations_that_say_nothing() -> None:
    paths = {"/pets": {"get": {}, "post": NEEDS_WRITE, "delete": {"security": []}}}
    proposal = propose(document(paths, security=[{"oauth": ["read"]}]), "scopes")
    assert proposal.roles() == {"read": ["allow GET /pets"], "write": ["allow POST /pets"]}
    assert found(proposal) == [("public", "DELETE /pets")]


def test_alternatives_are_a_rule_in_each_role() -> None:
    either = {"security": [{"oauth": ["read"]}, {"oauth": ["admin"]}]}
    assert propose(document({"/pets": {"get": either}}), "scopes").roles() == {
        "admin": ["allow GET /pets"],
        "read": ["allow GET /pets"],
    }


def test_scopes_needed_together_are_a_role_of_their_own_and_not_either_of_the_two() -> None:
    both = {"security": [{"oauth": ["write", "read"]}]}
    proposal = propose(document({"/pets": {"get": NEEDS_READ, "put": both}}), "scopes")
    assert proposal.roles() == {"read": ["allow GET /pets"], "read.and.write": ["allow PUT /pets"]}
    assert found(proposal) == [("together", "read.and.write")]


def test_schemes_needed_together_are_a_role_of_their_own_too() -> None:
    both = {"security": [{"oauth": ["read"], "key": []}]}
    assert propose(document({"/pets": {"get": both}}), "scopes").roles() == {"key.and.read": ["allow GET /pets"]}


def test_an_alternative_that_needs_more_than_another_is_none() -> None:
    more = {"security": [{"oauth": ["read", "write"]}, {"oauth": ["read"]}]}
    assert propose(document({"/pets": {"get": more}}), "scopes").roles() == {"read": ["allow GET /pets"]}


def test_a_scheme_without_scopes_is_a_role() -> None:
    keyed: dict[str, Any] = {"security": [{"api_key": []}]}
    assert propose(document({"/pets": {"get": keyed}}), "scopes").roles() == {"api_key": ["allow GET /pets"]}


@pytest.mark.parametrize("public", [{"security": []}, {"security": [{}]}, {"security": [{"oauth": ["read"]}, {}]}])
@pytest.mark.parametrize("by", ["scopes", "tags", "operations"])
def test_what_needs_no_credentials_has_no_rule_and_is_told(by: By, public: dict[str, Any]) -> None:
    proposal = propose(document({"/health": {"get": public | {"tags": ["a"], "operationId": "health"}}}), by)
    assert (proposal.roles(), found(proposal)) == ({}, [("public", "GET /health")])


def test_what_says_nothing_of_security_has_no_rule_by_scopes_and_is_told() -> None:
    silent = document({"/pets": {"get": {"tags": ["Pets"], "operationId": "listPets"}}})
    proposal = propose(silent, "scopes")
    assert (proposal.roles(), found(proposal)) == ({}, [("left_out", "GET /pets")])
    assert propose(silent, "tags").roles() == {"pets": ["allow GET /pets"]}
    assert propose(silent, "operations").roles() == {"list-pets": ["allow GET /pets"]}


def test_a_tag_is_a_role_and_what_has_none_is_left_out() -> None:
    paths = {"/pets": {"get": {"tags": ["Pet store", "All"]}, "post": {}}}
    proposal = propose(document(paths), "tags")
    assert proposal.roles() == {"all": ["allow GET /pets"], "pet-store": ["allow GET /pets"]}
    assert found(proposal) == [("left_out", "POST /pets")]


def test_an_operation_without_an_id_is_named_by_method_and_path() -> None:
    assert propose(document({"/pets/{id}": {"get": {}}}), "operations").roles() == {"get-pets-id": ["allow GET /pets/{id}"]}


def test_an_operation_id_that_stands_twice_is_refused() -> None:
    twice = document({"/a": {"get": {"operationId": "a"}}, "/b": {"get": {"operationId": "a"}}})
    assert [field for field, _ in problems(twice, "operations")] == ["paths./b.get.operationId"]


# ------------------------------------------------------------------------------------------------------ names of roles


def test_two_that_would_be_one_role_are_named_and_can_be_told_apart() -> None:
    clash = document({"/a": {"get": {"tags": ["Read All"]}}, "/b": {"get": {"tags": ["read-all"]}}})
    ((field, rule),) = problems(clash, "tags")
    assert (field, "'Read All'" in rule, "'read-all'" in rule) == ("read-all", True, True)
    assert propose(clash, "tags", names={"Read All": "reader"}).roles().keys() == {"reader", "read-all"}
    assert propose(clash, "tags", names={"Read All": "reader", "read-all": "reader"}).roles() == {
        "reader": ["allow GET /a", "allow GET /b"]
    }


@pytest.mark.parametrize("tag", ["Größe", "...", "direct", "x" * 129])
def test_what_can_be_no_name_of_a_role_is_refused_and_can_be_given_one(tag: str) -> None:
    unnamed = document({"/a": {"get": {"tags": [tag]}}})
    assert [field for field, _ in problems(unnamed, "tags")] == [tag]
    assert propose(unnamed, "tags", names={tag: "reader"}).roles() == {"reader": ["allow GET /a"]}


def test_scopes_needed_together_are_named_with_a_space_between() -> None:
    both = document({"/a": {"get": {"security": [{"oauth": ["write", "read"]}]}}})
    assert propose(both, "scopes", names={"read write": "editor"}).roles() == {"editor": ["allow GET /a"]}


def test_a_name_for_nothing_and_a_name_that_is_none_are_refused() -> None:
    plain = document({"/a": {"get": NEEDS_READ}})
    assert [field for field, _ in problems(plain, names={"raed": "reader"})] == ["raed"]
    assert [field for field, _ in problems(plain, names={"read": "Not A Name"})] == ["read"]


# --------------------------------------------------------------------------------------------------------------- paths


@pytest.mark.parametrize(
    ("servers", "base"),
    [
        ([{"url": "https://api.example.org/v1/"}], "/v1"),
        ([{"url": "https://api.example.org"}], ""),
        ([{"url": "/v1"}], "/v1"),
        ([{"url": "/"}], ""),
        ([{"url": "//api.example.org/v1"}], "/v1"),
        ([{"url": "https://{host}:{port}/v1", "variables": {"host": {"default": "a"}, "port": {"default": "1"}}}], "/v1"),
        ([], ""),
    ],
)
def test_the_path_of_the_first_server_stands_before_the_others(servers: list[Any], base: str) -> None:
    proposal = propose(document({"/pets": {"get": NEEDS_READ}}, servers=servers), "scopes")
    assert (proposal.roles(), proposal.findings) == ({"read": [f"allow GET {base}/pets"]}, ())


def test_a_prefix_takes_the_place_of_the_servers() -> None:
    elsewhere = document({"/pets": {"get": NEEDS_READ}}, servers=[{"url": "relative"}])
    assert propose(elsewhere, "scopes", prefix="/v2/").roles() == {"read": ["allow GET /v2/pets"]}
    assert propose(elsewhere, "scopes", prefix="/").roles() == {"read": ["allow GET /pets"]}


def test_servers_of_a_path_or_an_operation_come_first() -> None:
    paths = {
        "/a": {"servers": [{"url": "/item"}], "get": NEEDS_READ, "put": NEEDS_READ | {"servers": [{"url": "/operation"}]}},
        "/b": {"get": NEEDS_READ},
    }
    proposal = propose(document(paths, servers=[{"url": "/all"}]), "scopes")
    assert proposal.roles() == {"read": ["allow GET /all/b", "allow GET /item/a", "allow PUT /operation/a"]}


def test_another_path_of_another_server_and_a_variable_in_a_path_are_told() -> None:
    servers = [{"url": "/{v}", "variables": {"v": {"default": "v1"}}}, {"url": "/v2"}]
    proposal = propose(document({"/a": {"get": NEEDS_READ}}, servers=servers), "scopes")
    assert proposal.roles() == {"read": ["allow GET /v1/a"]}
    assert found(proposal) == [("base_path", "servers.0"), ("base_path", "servers")]


@pytest.mark.parametrize("url", ["v1", "./v1", "https://[::1/v1", "https://a/v1?x=1", "{undefined}/v1", 7, None])
def test_a_server_whose_path_nobody_knows_is_refused(url: object) -> None:
    assert problems(document({"/a": {"get": NEEDS_READ}}, servers=[{"url": url}]))[0][0].startswith("servers.0")


@pytest.mark.parametrize(
    "path",
    [
        "/files/{a}{b}",
        "/files/{path*}",
        "/files/{+path}",
        "/files/{path:.*}",
        "/files/{}",
        "/files/**",
        "/files/*",
        "/files/{id};v=1",
        "/files/;{id}",
        "/files//x",
        "/files/../x",
        "/files/{id}?x=1",
        "/files#list",
        "/files/a b",
        "/files/{id",
        "files",
        "/" + "/".join("abcdefghij" * 7),
    ],
)
def test_a_path_that_templates_cannot_say_is_left_out_and_told(path: str) -> None:
    proposal = propose(document({path: {"get": NEEDS_READ}, "/plain": {"get": NEEDS_READ}}), "scopes")
    assert proposal.roles() == {"read": ["allow GET /plain"]}
    assert found(proposal) == [("left_out", f"GET {path}")]


@pytest.mark.parametrize("of", ["item", "operation", "reference"])
def test_a_parameter_that_is_written_with_semicolons_is_left_out_and_told(of: str) -> None:
    parameters = [{"name": "id", "in": "path", "style": "matrix"}]
    if of == "reference":
        item = {"get": NEEDS_READ, "parameters": [{"$ref": "#/components/parameters/id"}]}
        proposal = propose(document({"/a/{id}": item}, components={"parameters": {"id": parameters[0]}}), "scopes")
    elif of == "item":
        proposal = propose(document({"/a/{id}": {"get": NEEDS_READ, "parameters": parameters}}), "scopes")
    else:
        proposal = propose(document({"/a/{id}": {"get": NEEDS_READ | {"parameters": parameters}}}), "scopes")
    assert (proposal.roles(), found(proposal)) == ({}, [("left_out", "GET /a/{id}")])


def test_text_beside_a_parameter_in_a_segment_is_kept() -> None:
    paths = {"/files/{name}.json": {"get": NEEDS_READ}, "/compare/{base}...{head}": {"get": NEEDS_READ}}
    proposal = propose(document(paths), "scopes")
    assert proposal.roles() == {"read": ["allow GET /compare/{base}...{head}", "allow GET /files/{name}.json"]}


def test_a_parameter_named_sub_is_anybodys_and_not_the_callers_own() -> None:
    proposal = propose(document({"/u/{sub}/{sub_}": {"get": NEEDS_READ}}), "scopes")
    assert proposal.roles() == {"read": ["allow GET /u/{sub__}/{sub_}"]}
    assert found(proposal) == [("renamed", "GET /u/{sub}/{sub_}")]


def test_templates_that_differ_in_names_alone_are_one_operation() -> None:
    proposal = propose(document({"/a/{x}": {"get": NEEDS_READ}, "/a/{y}": {"get": NEEDS_READ, "put": NEEDS_READ}}), "scopes")
    assert (proposal.roles(), found(proposal)) == ({"read": ["allow GET /a/{x}", "allow PUT /a/{y}"]}, [])
    proposal = propose(document({"/a/{x}": {"get": NEEDS_READ}, "/a/{y}": {"get": NEEDS_WRITE}}), "scopes")
    assert (proposal.roles(), found(proposal)) == (
        {"read": ["allow GET /a/{x}"], "write": ["allow GET /a/{x}"]},
        [("merged", "GET /a/{x}")],
    )


def test_get_covers_head_and_options_is_a_method_like_others() -> None:
    paths = {"/a": {"get": NEEDS_READ, "head": NEEDS_READ, "options": NEEDS_READ}, "/b": {"head": NEEDS_READ}}
    assert propose(document(paths), "scopes").roles() == {"read": ["allow GET /a", "allow HEAD /b", "allow OPTIONS /a"]}


# ------------------------------------------------------------------------------------------------- what else is opened


def test_a_rule_that_opens_a_more_concrete_operation_to_others_is_told() -> None:
    paths = {"/users/{id}": {"get": NEEDS_READ}, "/users/me": {"get": NEEDS_WRITE}, "/users/all": {"get": NEEDS_READ}}
    (finding,) = propose(document(paths), "scopes").findings
    assert (finding.kind, finding.about) == ("also_opens", "GET /users/{id}")
    assert "GET /users/me" in finding.what
    assert "/users/all" not in finding.what
    assert finding.what.endswith("to read")


def test_what_was_left_out_can_be_opened_and_is_told_and_what_is_public_cannot() -> None:
    paths = {"/users/{id}": {"get": NEEDS_READ}, "/users/me": {"get": {}}, "/users/health": {"get": {"security": []}}}
    finding = propose(document(paths), "scopes").findings[-1]
    assert (finding.kind, "GET /users/me" in finding.what, "health" in finding.what) == ("also_opens", True, False)


def test_a_head_of_other_roles_than_its_get_is_told() -> None:
    assert found(propose(document({"/a": {"get": NEEDS_READ, "head": NEEDS_WRITE}}), "scopes")) == [("also_opens", "GET /a")]


def test_of_two_that_meet_and_are_equally_concrete_both_are_told() -> None:
    paths = {"/{a}/x": {"get": NEEDS_READ}, "/x/{b}": {"get": NEEDS_WRITE}}
    assert sorted(found(propose(document(paths), "scopes"))) == [("also_opens", "GET /x/{b}"), ("also_opens", "GET /{a}/x")]


def test_what_no_request_meets_is_not_told() -> None:
    paths = {"/users/{id}": {"get": NEEDS_READ}, "/users/": {"get": NEEDS_WRITE}, "/users/{id}.json/x": {"get": NEEDS_WRITE}}
    assert propose(document(paths), "scopes").findings == ()


# ----------------------------------------------------------------------------------------------------------- references


def test_a_path_item_may_stand_elsewhere_in_the_document() -> None:
    paths = {"/a": {"$ref": "#/components/pathItems/A~1b"}, "/c": {"$ref": "#/paths/~1a"}}
    components = {"pathItems": {"A/b": {"get": NEEDS_READ}}}
    assert propose(document(paths, components=components), "scopes").roles() == {"read": ["allow GET /a", "allow GET /c"]}


@pytest.mark.parametrize(
    "item",
    [
        {"$ref": "https://example.org/a.json"},
        {"$ref": "other.yaml#/a"},
        {"$ref": "#/components/nowhere"},
        {"$ref": "#/openapi"},
        {"$ref": "#/paths/~1a"},
        {"$ref": 7},
        {"$ref": "#/components/pathItems/B", "get": {}},
    ],
)
def test_a_reference_that_does_not_lead_to_an_object_of_the_document_is_refused(item: dict[str, Any]) -> None:
    components = {"pathItems": {"B": {"get": NEEDS_READ}}}
    assert [field for field, _ in problems(document({"/a": item}, components=components))] == ["paths./a"]


@pytest.mark.parametrize(
    ("operation", "place"),
    [
        ("", "paths./a.get"),
        ({"security": {}}, "paths./a.get.security"),
        ({"security": [["read"]]}, "paths./a.get.security.0"),
        ({"security": [{"oauth": "read"}]}, "paths./a.get.security.0.oauth"),
        ({"security": [{"oauth": [7]}]}, "paths./a.get.security.0.oauth"),
        ({"security": [{"oauth": [""]}]}, "paths./a.get.security.0.oauth"),
        ({"security": [{"oauth": ["x"]}] * 65}, "paths./a.get.security"),
        ({"$ref": "#/paths/~1b/get"}, "paths./a.get"),
        (NEEDS_READ | {"servers": {}}, "paths./a.get.servers"),
        (NEEDS_READ | {"parameters": "x"}, "paths./a.get.parameters"),
    ],
)
def test_a_part_of_another_shape_is_refused_by_its_place(operation: object, place: str) -> None:
    assert problems(document({"/a": {"get": operation}}))[0][0] == place


def test_too_many_operations_are_refused() -> None:
    many = {f"/{number}": {"get": NEEDS_READ, "put": NEEDS_READ} for number in range(5_001)}
    assert problems(document(many)) == [("paths", "at most 10000 operations")]


@pytest.mark.parametrize("value", [None, [], "openapi: 3.0.0", 7])
def test_what_is_no_object_is_no_document(value: object) -> None:
    assert problems(value)[0][0] == ""


# ----------------------------------------------------------------------------------------------------------- our own


@pytest.mark.parametrize("by", ["scopes", "tags", "operations"])
def test_our_own_document_is_read_whole(by: By) -> None:
    proposal = propose(DOCUMENT, by)
    public = {about for kind, about in found(proposal) if kind == "public"}
    assert {kind for kind, _ in found(proposal)} <= {"public", "also_opens"}
    assert public >= {"POST /login", "GET /openapi.json", "GET /healthz"}
    documented = {f"{method.upper()} {path}" for path, item in DOCUMENT["paths"].items() for method in item}
    assert {str(operation) for operation in proposal.operations} | public == documented


# ------------------------------------------------------------------------------------------------------- any document

SEGMENTS = st.sampled_from(["a", "b", "{x}", "{y}", "a-{x}", "{x}.json", "{x}-{y}", ""])
PATHS = st.lists(SEGMENTS, min_size=1, max_size=3).map(lambda parts: "/" + "/".join([*filter(None, parts[:-1]), parts[-1]]))
SCOPES = st.lists(st.sampled_from(["r", "w", "s"]), min_size=1, max_size=2, unique=True)
SECURITY = st.lists(st.fixed_dictionaries({"oauth": SCOPES}), max_size=2)
OPERATIONS = st.fixed_dictionaries({}, optional={"security": SECURITY})
ITEMS = st.dictionaries(st.sampled_from(["get", "head", "put", "delete"]), OPERATIONS, max_size=3)


NAMES = [("a", "c"), ("c", "a"), ("a-c", "c.json"), ("c.json", "c-d"), ("a-c.json", "b")]


def takes(path: str, target: str) -> bool:
    """Say whether a template takes a path; the naive reading, made for this test."""
    pattern = "".join("[^/]+?" if part.startswith("{") else re.escape(part) for part in re.split(r"(\{\w+\})", path))
    return re.fullmatch(pattern, target) is not None


def shape(path: str) -> str:
    return re.sub(r"\w+(?=\})", "", path)


def is_more_concrete(path: str, than: str) -> bool:
    """Say whether OpenAPI prefers the one to the other: text where the other has a parameter, and nowhere the contrary."""
    pairs = list(zip(shape(path).split("/"), shape(than).split("/"), strict=True))
    return shape(path) != shape(than) and all(o == p or p == "{}" or ("{" in p and "{" not in o) for o, p in pairs)


def needs(operation: dict[str, Any]) -> set[str]:
    """Answer the roles that open an operation: one for each alternative that does not need all that another one does."""
    alternatives = [frozenset(alternative["oauth"]) for alternative in operation.get("security", [])]
    return {".and.".join(sorted(one)) for one in alternatives if not any(other < one for other in alternatives)}


@given(st.dictionaries(PATHS, ITEMS, max_size=6))
def test_a_role_opens_what_it_stands_for_and_nothing_else_that_is_not_told(paths: dict[str, Any]) -> None:
    paths = {path: item for path, item in paths.items() if len(set(re.findall(r"\{\w+\}", path))) == path.count("{")}
    proposal = propose(document(paths), "scopes")
    matcher: Matcher[str, None] = Matcher()
    for role, lines in proposal.roles().items():
        for rule in map(Rule.parse, lines):
            matcher.add(role, rule.rule_id, rule.methods, Template.parse(rule.path), None)
    operations = {(method.upper(), path): needs(of) for path, item in paths.items() for method, of in item.items()}
    roles = set().union(*operations.values())
    assert roles == proposal.roles().keys()
    told = [finding for finding in proposal.findings if finding.kind in ("also_opens", "merged")]
    for (method, path), needed in operations.items():
        for x, y in NAMES:
            target = path.replace("{x}", x).replace("{y}", y)
            opened = {role for role, _ in matcher.match(method, target[1:].split("/"), roles, "")}
            takers = {
                (other, template): held
                for (other, template), held in operations.items()
                if takes(template, target) and (other == method or (other, method) == ("GET", "HEAD"))
            }
            assert opened == set().union(*takers.values())
            if paths[path][method.lower()].get("security") == []:
                continue  # whoever knows it may call it
            for role in opened - needed:
                assert any(
                    is_more_concrete(template, path)
                    or any(
                        shape(finding.about) == f"{other} {shape(template)}"
                        and (finding.kind == "merged" or role in finding.what)
                        for finding in told
                    )
                    for (other, template), held in takers.items()
                    if role in held
                ), (method, path, target, role)
