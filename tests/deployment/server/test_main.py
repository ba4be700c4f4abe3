import signal
import socket

import mlflow
import pytest

from benchmarks.ports import find_free_port
from sem_search.deployment.server.intake import LOCAL_HOSTS
from sem_search.deployment.server.main import ServeSettings, run_server
from sem_search.errors import ModelNotFoundError, SettingsError

TOLD = {
    "model": "models:/lactose@champion",
    "host": "127.0.0.1",
    "port": 5001,
    "timeout": 30,
    "watch": 5.0,
    "max_request_mb": 10.0,
    "max_megapixels": 150.0,
}


def test_the_words_of_the_command_line_become_settings() -> None:
    settings = ServeSettings(**TOLD)
    assert settings.limits.timeout_s == 30.0
    limits = settings.limits.request
    assert (limits.max_bytes, limits.max_request_megapixels, limits.max_image_megapixels) == (10_000_000, 150.0, 100.0)


def test_the_names_that_callers_may_use() -> None:
    assert ServeSettings(**TOLD).limits.allowed_hosts == LOCAL_HOSTS
    told = ServeSettings(**TOLD | {"host": "192.0.2.1", "allowed_hosts": "sem.example.org"})
    assert told.limits.allowed_hosts == LOCAL_HOSTS | {"192.0.2.1", "sem.example.org"}
    with pytest.raises(SettingsError, match="allowed-hosts: 'http://a' is no name of a host"):
        ServeSettings(**TOLD | {"allowed_hosts": "http://a"})


@pytest.mark.parametrize(("host", "names", "is_warned"), [("0.0.0.0", "", True), ("0.0.0.0", "a.example", False)])
def test_a_server_that_nobody_elsewhere_can_ask_says_so(
    tracking: mlflow.MlflowClient, caplog: pytest.LogCaptureFixture, host: str, names: str, is_warned: bool
) -> None:
    settings = ServeSettings(
        **TOLD | {"port": find_free_port(), "model": "models:/no-such@champion", "host": host, "allowed_hosts": names}
    )
    with pytest.raises(ModelNotFoundError):
        run_server(settings)
    assert ("give the names of this server with --allowed-hosts" in caplog.text) is is_warned


@pytest.mark.parametrize("name", ["watch", "max_request_mb", "max_megapixels"])
@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_values_out_of_range_are_refused(name: str, value: float) -> None:
    with pytest.raises(SettingsError, match=f"{name.replace('_', '-')}=.* must be above 0"):
        ServeSettings(**TOLD | {name: value})


def test_a_port_that_is_taken_is_reported_at_once() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(SettingsError, match=f"port={port} on host=127.0.0.1 cannot be opened .*in use"):
            run_server(ServeSettings(**TOLD | {"port": port}))


def test_a_host_that_is_none_of_this_machine_s_is_reported() -> None:
    with pytest.raises(SettingsError, match=r"host=192\.0\.2\.1 cannot be opened"):
        run_server(ServeSettings(**TOLD | {"host": "192.0.2.1"}))


def test_a_model_that_is_not_there_is_one_sentence(tracking: mlflow.MlflowClient) -> None:
    settings = ServeSettings(**TOLD | {"port": find_free_port(), "model": "models:/no-such@champion"})
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(ModelNotFoundError, match="There is no registered model 'no-such'"):
        run_server(settings)
    assert signal.getsignal(signal.SIGINT) is before
