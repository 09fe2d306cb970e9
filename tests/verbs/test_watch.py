"""Numbers and flags of ``pangu-cv watch`` that cannot be are told before anything is opened."""

import pytest

from pangu_cv import cli

WRONG = [
    ("--max-annotated-mb inf", "--max-annotated-mb: inf found"),
    ("--max-doubtful-mb 1e305", "--max-doubtful-mb: 1e+305 found"),
    ("--max-doubtful-mb -1", "--max-doubtful-mb: -1.0 found"),
    ("--doubt nan", "--doubt: nan found"),
    ("--poll-seconds -1", "--poll-seconds: -1.0 found"),
    ("--poll-seconds 1e12", "--poll-seconds: 1000000000000.0 found"),
    ("--settle-seconds inf", "--settle-seconds: inf found"),
    ("--every 0 --camera 0", "--every: 0.0 found"),
    ("--once --camera 0", "leave --once out"),
    ("--after keep --camera 0", "--after move keeps all in OUT/done"),
]


@pytest.mark.parametrize(("flags", "told"), WRONG, ids=[flags for flags, _ in WRONG])
def test_what_cannot_be_is_told(flags: str, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main(["watch", "no-bundle", "no-inbox", "--out", "no-out", *flags.split()])
    assert stopped.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert told in said
