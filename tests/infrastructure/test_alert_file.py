"""alerts.toml: the example of the documentation, and the errors of invalid files."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from app.infrastructure.alerts.file import AlertFile, AlertFileError, read
from app.infrastructure.alerts.rule_schemas import MEASURES

EXAMPLE = Path(__file__).parents[2] / "docs" / "alerts.toml"
SECRET = "https://hooks.example.org/T0/s3cret"
HOOK = '[[webhook]]\nname = "team"\nurl_env = "HOOK"\n'
RULE = '[[rule]]\nname = "r"\nmodels = ["m"]\nmeasure = "silence"\nwindow = "10m"\n'


def read_text(folder: Path, text: str) -> AlertFile:
    file = folder / "alerts.toml"
    file.write_text(text)
    return read(file, {"HOOK": SECRET, "PLAIN": "ftp://x"})


def test_the_example_of_the_documentation_is_read_and_has_every_measure(tmp_path: Path) -> None:
    (tmp_path / "alerts.toml").write_text(EXAMPLE.read_text())
    (tmp_path / "pager-url").write_text("https://pager.example.org/s3cret\n")
    file = read(tmp_path / "alerts.toml", {"ALERTS_SLACK_URL": SECRET})
    assert {type(rule.measure).__name__ for rule in file.rules} == {
        schema.__name__.removesuffix("Schema") for schema in MEASURES.values()
    }
    assert [(webhook.name, webhook.url) for webhook in file.webhooks] == [
        ("team", SECRET),
        ("pager", "https://pager.example.org/s3cret"),
    ]
    assert file.every == timedelta(seconds=30)
    assert "s3cret" not in repr(file)


def test_the_example_is_the_one_in_the_documentation() -> None:
    assert "(alerts.toml)" in EXAMPLE.with_name("alerts.md").read_text()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[[rule]", "is not TOML"),
        ("nonsense = 1", "nonsense: Unknown field"),
        ('every = "0s"', "every"),
        (RULE.replace('"silence"', '"magic"'), "rule 1 (r): measure: Must be one of error_rate"),
        (RULE.replace('"10m"', '"10"'), 'rule 1 (r): window: Not a duration like "30s"'),
        (RULE.replace('"10m"', '"9s"'), "rule 1 (r): window: Must be at least 10s"),
        (RULE.replace('window = "10m"\n', ""), "rule 1 (r): window: Missing data"),
        (RULE + "above = 1\n", "rule 1 (r): above: Unknown field"),
        (RULE + 'webhooks = ["x"]\n', "rule 1 (r): webhooks: There is no webhook x"),
        (RULE + "min_completeness = 90\n", "rule 1 (r): min_completeness: Must be a share"),
        (RULE + RULE, "rule: There are two with the name r"),
        (RULE.replace('"silence"', '"error_rate"'), "rule 1 (r): above: Missing data"),
        (RULE.replace('"silence"', '"error_rate"') + 'above = "5%"\n', "rule 1 (r): above: Not a number"),
        (RULE.replace('"silence"', '"error_rate"') + "above = nan\n", "rule 1 (r): above"),
        (RULE.replace('"silence"', '"change"') + 'of = "error_rate"\n', "ago: Give either ago or against_version"),
        (RULE.replace('"silence"', '"change"') + 'of = "error_rate"\nago = "5m"\n', "ago: Must not be shorter"),
        (RULE.replace('"silence"', '"change"') + 'of = "error_rate"\nagainst_version = "1"\n', "version: Give"),
        (RULE.replace('"silence"', '"change"') + 'of = "percentile"\nago = "7d"\n', "percentile: Belongs to"),
        (HOOK + HOOK, "webhook: There are two with the name team"),
        (HOOK.replace("HOOK", "UNSET"), "webhook team: url_env: UNSET is not set"),
        (HOOK.replace("HOOK", "PLAIN"), "webhook team: The address is no URL"),
        (HOOK.replace("url_env", "url_file"), "webhook team: url_file: HOOK cannot be read"),
        (HOOK + 'url = "http://x"\n', "webhook team: Give one of"),
        (HOOK + "template = '{'\n", "webhook team: Not JSON"),
        (HOOK + """template = '{"a": "$nothing"}'\n""", "webhook team: There is no $nothing"),
        (HOOK + """template = '{"a": "5 $"}'\n""", "webhook team: A $ that is no placeholder"),
        (HOOK + r"""template = '{"a": "\ud83d"}'""", "webhook team: Must be valid Unicode"),
        (HOOK + """template = '{"a": NaN}'\n""", "webhook team: Not JSON"),
        (HOOK + """template = '{"a": 1e400}'\n""", "webhook team: Not JSON"),
        (HOOK + f"template = '{'[' * 51}{']' * 51}'\n", "webhook team: A template may have lists and objects in 50"),
        (HOOK + f"template = '{'[' * 3000}{']' * 3000}'\n", "webhook team: A template may have lists"),
        (HOOK + RULE + 'webhooks = ["team", "team"]\n', "rule 1 (r): webhooks: There are two with the name team"),
        (HOOK.replace("HOOK", SECRET), "webhook team: url_env: Give the name of an environment variable"),
        (HOOK.replace("HOOK", SECRET[8:]), "webhook team: url_env: Give the name of an environment variable"),
        (HOOK.replace("HOOK", SECRET).replace("env", "file"), "webhook team: url_file: Give the name of a file"),
        (
            '[[webhook]]\nname = "team"\nurl = "https://h/s3cret\u00e9"\n',
            "webhook team: The address has other characters",
        ),
        (RULE + f"min_predictions = {'9' * 5000}\n", "A number has too many digits"),
        (RULE.replace('"r"', r'"r\u0000"'), "name: Must not contain NUL"),
        (RULE.replace('"m"', r'"m\u0000"'), "models: 0: Must not contain NUL"),
        (RULE + r'version = "\u0000"', "version: Must not contain NUL"),
        ('[[webhook]]\nname = "team"\nurl = "http://me:s3cret@\u2100.org/"\n', "webhook team: The address is no URL"),
        ('[[webhook]]\nname = "team"\nurl = "http://me:s3cret@[x]/"\n', "webhook team: The address is no URL"),
    ],
)
def test_what_cannot_be_is_refused_with_its_place_and_no_secret(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(AlertFileError) as refused:
        read_text(tmp_path, text)
    assert words in str(refused.value)
    assert "s3cret" not in str(refused.value) and "ftp://" not in str(refused.value)


def test_a_file_that_is_not_there_is_said_to_be_so() -> None:
    with pytest.raises(AlertFileError, match="cannot be read: No such file"):
        read(Path(f"/nowhere/{uuid4()}"))


def test_a_file_without_rules_watches_nothing(tmp_path: Path) -> None:
    assert read_text(tmp_path, "").rules == ()
