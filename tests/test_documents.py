"""Documents of JSON and YAML as the command line reads them: texts, no guesses, no surprises."""

from pathlib import Path
from typing import Any

import click
import pytest

from api.cli import documents
from api.cli.documents import read_document


def read(folder: Path, content: str | bytes) -> Any:
    file = folder / "document"
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_document(str(file))


@pytest.mark.parametrize(
    "content", ['{"a": ["b", {"c": "d"}]}', ' \n{"a":["b",{"c":"d"}]}', "a: [b, {c: d}]", "a:\n- b\n- c: d\n"]
)
def test_json_and_yaml_say_the_same(tmp_path: Path, content: str) -> None:
    assert read(tmp_path, content) == {"a": ["b", {"c": "d"}]}


def test_a_byte_order_mark_is_no_part_of_it(tmp_path: Path) -> None:
    assert read(tmp_path, b"\xef\xbb\xbfa: b") == read(tmp_path, b'\xef\xbb\xbf{"a": "b"}') == {"a": "b"}


@pytest.mark.parametrize("text", ["yes", "no", "3.10", "0777", "1:30", "2020-01-01", "null", "~", "1e3", ".inf", "on"])
def test_a_scalar_of_yaml_is_the_text_that_stands_there(tmp_path: Path, text: str) -> None:
    assert read(tmp_path, f"{text}: [{text}]") == {text: [text]}


def test_an_alias_of_yaml_is_what_it_stands_for(tmp_path: Path) -> None:
    assert read(tmp_path, "a: &it {b: [c]}\nd: *it\ne: &text x\nf: *text") == {
        "a": {"b": ["c"]},
        "d": {"b": ["c"]},
        "e": "x",
        "f": "x",
    }


def test_no_tag_of_yaml_makes_an_object(tmp_path: Path) -> None:
    assert read(tmp_path, "a: !!python/object/apply:os.getcwd []\nb: !!timestamp 2020-01-01") == {"a": [], "b": "2020-01-01"}


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        ('{"a": 1, "b": 2, "a": 3}', "'a' stands twice"),
        ("a: 1\nb: 2\na: 3", "'a' stands twice, line 3"),
        ("a: &x {b: c}\nd:\n  <<: *x", "merge keys (<<) are none of YAML 1.2, line 3"),
        ("? [a]\n: b", "a member has a name"),
        ("? {a: b}\n: c", "a member has a name"),
        ("- &a [*a]", "*a stands for nothing"),
        ("a: *b", "*b stands for nothing"),
        ("a: b\n---\nc: d", "not one document"),
        ("", "not one document"),
        ("# nothing", "not one document"),
        ("a: [", "not YAML: "),
        ("a: b: c", "line 1"),
        ("a: \x01", "not YAML: "),
        ('{"a": }', "line 1 column 7"),
        ('{"a": "b"} {}', "Extra data"),
        ("[" * 100_000, "nested too deep"),
        ("- " * 201 + "a", "nested deeper than 200"),
        (b"a: \xff", "not UTF-8"),
    ],
)
def test_what_cannot_be_read_is_refused_with_the_reason(tmp_path: Path, content: str | bytes, rule: str) -> None:
    with pytest.raises(click.ClickException) as refused:
        read(tmp_path, content)
    assert rule in refused.value.message
    assert refused.value.message.isprintable()


def test_aliases_that_repeat_aliases_count_as_often_as_they_repeat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "MAX_VALUES", 1_000)
    levels = [f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 9)]
    assert len(read(tmp_path, "\n".join(["a0: &a0 [x]", *levels[:2]]))["a2"]) == 9
    with pytest.raises(click.ClickException, match="more than 1000 values"):
        read(tmp_path, "\n".join(["a0: &a0 [x]", *levels]))


def test_a_file_that_is_too_large_or_not_there_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(click.ClickException, match="No such file"):
        read_document(str(tmp_path / "nowhere"))
    monkeypatch.setattr(documents, "MAX_BYTES", 1024 * 1024)
    assert read(tmp_path, "a: b" + " " * (1024 * 1024 - 4)) == {"a": "b"}
    with pytest.raises(click.ClickException, match="larger than 1 MiB"):
        read(tmp_path, "a: b" + " " * (1024 * 1024 - 3))
