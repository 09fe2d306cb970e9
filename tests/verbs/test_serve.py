"""What ``pangu-cv serve`` makes of its flags."""

from pathlib import Path

import pytest

from pangu_cv import cli
from pangu_runtime.serve.config import ServeConfig

server = pytest.importorskip("pangu_runtime.serve.server")


class Started(Exception):
    """Instead of a server."""

    def __init__(self, config: ServeConfig) -> None:
        self.config = config


def serve(monkeypatch: pytest.MonkeyPatch, *flags: str) -> ServeConfig:
    def started(_: tuple[Path, ...], config: ServeConfig) -> None:
        raise Started(config)

    monkeypatch.setattr(server, "listen", lambda *_: None)
    monkeypatch.setattr(server, "server_of", started)
    with pytest.raises(Started) as seen:
        cli.main(["serve", "bundle", *flags])
    return seen.value.config


def test_slow_uplinks_and_slow_models_get_their_time(monkeypatch: pytest.MonkeyPatch) -> None:
    assert serve(monkeypatch) == ServeConfig()
    slow = serve(monkeypatch, "--body-seconds", "300", "--answer-seconds", "90")
    assert (slow.body_timeout_s, slow.decide_timeout_s) == (300, 90)


def test_no_time_at_all_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main(["serve", "bundle", "--body-seconds", "0"])
    assert stopped.value.code == 2
    assert "--body-seconds: 0" in capsys.readouterr().err
