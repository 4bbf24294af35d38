from typing import Annotated, Literal

import pytest
from pydantic import Field, model_validator

from ray_sft.core import Config, ConfigError, apply_overrides, load_tree, validate


class Csv(Config):
    kind: Literal["csv"] = "csv"
    path: str
    delimiter: str = ","


class Text(Config):
    kind: Literal["text"] = "text"
    path: str


class Train(Config):
    epochs: int = Field(default=3, ge=1)
    learning_rate: float = 1e-3

    @model_validator(mode="after")
    def _not_both(self):
        if self.epochs == 13:
            raise ValueError("epochs: thirteen brings bad luck")
        return self


class Page(Config):
    name: str = "page"
    sources: dict[str, Annotated[Csv | Text, Field(discriminator="kind")]] = Field(
        default_factory=dict
    )
    steps: tuple[Train, ...] = ()
    train: Train = Train()


def problem(tree) -> str:
    with pytest.raises(ConfigError) as caught:
        validate(Page, tree, what="recipe 'x'")
    return str(caught.value)


def read(tmp_path, text):
    path = tmp_path / "page.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load_tree(path)


def test_a_page_is_read_and_frozen(tmp_path):
    page = validate(Page, read(tmp_path, "train: {epochs: 2, learning_rate: 7.0e-4}"), what="x")
    assert page == Page(train=Train(epochs=2, learning_rate=7e-4))
    with pytest.raises(ValueError, match="frozen"):
        page.name = "other"


def test_unknown_key_is_named_with_the_nearest_known_one():
    assert problem({"trian": {}}).endswith("trian: unknown key. Did you mean 'train'?")
    assert problem({"train": {"epoch": 2}}).endswith(
        "train.epoch: unknown key. Did you mean 'epochs'?"
    )
    assert problem({"zzz": 1}).endswith("zzz: unknown key.")


def test_paths_are_those_of_the_file_without_the_kind():
    text = problem({"sources": {"a": {"kind": "csv", "path": "x", "delimeter": ";"}}})
    assert "sources.a.delimeter: unknown key. Did you mean 'delimiter'?" in text
    text = problem({"sources": {"a": {"kind": "csv", "path": 7}}})
    assert "sources.a.path: Input should be a valid string (got 7)" in text


def test_a_kind_that_is_also_a_field_stays_in_the_path():
    class Odd(Config):
        kind: Literal["odd"] = "odd"
        odd: Train = Train()

    with pytest.raises(ConfigError, match=r"odd\.epochs: Input should be .* \(got 0\)"):
        validate(Odd, {"kind": "odd", "odd": {"epochs": 0}}, what="x")


def test_unknown_kind_lists_the_known_ones():
    text = problem({"sources": {"a": {"kind": "cvs", "path": "x"}}})
    assert "sources.a: " in text
    assert "'cvs'" in text
    assert "'csv', 'text'" in text


def test_every_problem_is_a_line_with_path_and_value():
    text = problem({"train": {"epochs": 0, "learning_rate": "fast"}, "steps": [{"epochs": -1}]})
    assert text.startswith("recipe 'x' is not valid:\n")
    assert "train.epochs: Input should be greater than or equal to 1 (got 0)" in text
    assert "train.learning_rate: Input should be a valid number" in text
    assert "(got 'fast')" in text
    assert "steps.0.epochs: Input should be greater than or equal to 1 (got -1)" in text


def test_missing_fields_and_own_checks_are_worded_for_people():
    assert "sources.a.path: is missing" in problem({"sources": {"a": {"kind": "csv"}}})
    text = problem({"train": {"epochs": 13}})
    assert "train: epochs: thirteen brings bad luck (got {'epochs': 13})" in text


def test_long_values_are_cut():
    assert len(problem({"train": {"epochs": "x" * 10_000}})) < 500


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3\n", r"key 'a' stands twice \(second time in line 3\)"),
        ("t: {x: 1, x: 2}\n", r"key 'x' stands twice \(second time in line 1\)"),
        ("a: [1\n", "not valid YAML"),
        ("? [a, b]\n: 1\n", "not valid YAML"),
        ("- a\n- b\n", "holds no mapping but list"),
        ("just words\n", "holds no mapping but str"),
        ("", "is empty"),
        ("# a comment\n", "is empty"),
        ("a: &a [*a]\n", "a value that contains itself"),
        ("a: !!python/object/apply:os.getcwd []\n", "not valid YAML"),
        (b"name: \xff\xfe\n", "is not UTF-8"),
    ],
)
def test_a_page_that_cannot_be_read_says_why(tmp_path, text, message):
    with pytest.raises(ConfigError, match=rf"recipe file '.*page\.yaml'.*{message}"):
        read(tmp_path, text)


def test_no_file_and_a_folder_are_named(tmp_path):
    with pytest.raises(ConfigError, match="does not exist"):
        load_tree(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load_tree(tmp_path)


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("train.epochs=8", {"train": {"epochs": 8, "rate": 1.5}, "steps": [{"n": 1}, {"n": 2}]}),
        ("steps.1.n=7", {"train": {"epochs": 3, "rate": 1.5}, "steps": [{"n": 1}, {"n": 7}]}),
        ("steps=[{n: 4}]", {"train": {"epochs": 3, "rate": 1.5}, "steps": [{"n": 4}]}),
        ("train={}", {"train": {}, "steps": [{"n": 1}, {"n": 2}]}),
    ],
)
def test_overrides_reach_into_mappings_and_lists(override, expected):
    tree = {"train": {"epochs": 3, "rate": 1.5}, "steps": [{"n": 1}, {"n": 2}]}
    assert apply_overrides(tree, [override]) == expected
    assert tree["steps"][1] == {"n": 2}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1),
        ("1.0e-3", 1e-3),
        ("true", True),
        ("'1'", "1"),
        ('"a=b"', "a=b"),
        ("a=b", "a=b"),
        ("s3://bucket/key", "s3://bucket/key"),
        ("C:/a b/c.csv", "C:/a b/c.csv"),
        ("'*.csv'", "*.csv"),
        ("[1, 'x, y']", [1, "x, y"]),
        ("", None),
        ("null", None),
        ("中文", "中文"),
    ],
)
def test_override_values_are_yaml(text, value):
    assert apply_overrides({}, [f"a.b={text}"]) == {"a": {"b": value}}


def test_overrides_apply_in_order_and_make_what_is_missing():
    assert apply_overrides({"a": None}, ["a.b.c=1", "a.b.d=2", "a.b.c=3"]) == {
        "a": {"b": {"c": 3, "d": 2}}
    }


def test_an_alias_is_changed_alone(tmp_path):
    tree = read(tmp_path, "a: &shared {n: 1}\nb: *shared\n")
    assert apply_overrides(tree, ["a.n=2"]) == {"a": {"n": 2}, "b": {"n": 1}}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train", "has no '='"),
        ("=3", "has no '='"),
        ("name.first=x", "'first' lies below a plain value 'page'"),
        ("name.first.second=x", "'second' lies below a plain value|'first' lies below"),
        ("steps.2=x", r"'2' is no position in a list of 2 items \(0 to 1\)"),
        ("steps.last=x", "'last' is no position"),
        ("none.0=x", r"list of 0 items \(set the whole list instead\)"),
        ("a=[1", r"the value is not valid YAML.*a=\"'\[1'\""),
        ("a=*.csv", r"the value is not valid YAML.*Quote it.*a=\"'\*\.csv'\""),
        ("a={x: 1, x: 2}", "key 'x' stands twice"),
    ],
)
def test_an_override_that_fits_nowhere_says_why(override, message):
    tree = {"name": "page", "steps": [1, 2], "none": []}
    with pytest.raises(ConfigError, match=rf"(?s)override .*{message}"):
        apply_overrides(tree, [override])
