"""No secret in any text."""

import pytest
from sqlalchemy import make_url

from sem_search.secrets import mask_secrets, mask_url


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("postgresql://me:hunter2@host:5432/db", "postgresql://me:***@host:5432/db"),
        ("postgresql+psycopg://me:p@ss:w@host/db", "postgresql+psycopg://me:***@host/db"),
        ("mysql://:only@host", "mysql://:***@host"),
        ("http://host:5000 and a@b.c", "http://host:5000 and a@b.c"),
        ("sqlite:///mlflow.db", "sqlite:///mlflow.db"),
        ("host=db password=hunter2 user=me", "host=db password=*** user=me"),
        ("https://h/?token=abc&x=1", "https://h/?token=***&x=1"),
        ("Password='x y'", "Password=***"),
        ('{"token=": "abc"}', '{"token=": "abc"}'),
        ("two: a://u:1@h and b://v:2@k", "two: a://u:***@h and b://v:***@k"),
        ("x postgresql://me:pa/ss@host/db y", "x postgresql://me:***@host/db y"),
        ("x postgresql://me:pa@ss/w@host/db y", "x postgresql://me:***@host/db y"),
        ("x postgresql+psycopg://me:a b@host/db y", "x postgresql+psycopg://me:***@host/db y"),
        ("x postgresql+psycopg://me:a b@c@host/db y", "x postgresql+psycopg://me:***@host/db y"),
        ("postgresql://me@corp:hunter2@host/db", "postgresql://me@corp:***@host/db"),
        ("postgresql://host/db?sslpassword=hunter2&x=1", "postgresql://host/db?sslpassword=***&x=1"),
        ("host=db sslpassword='it\\'s', user=me", "host=db sslpassword=***, user=me"),
        ("host=db password=a,b;c, user=me", "host=db password=***, user=me"),
        ('client_secret="a b" PGPASSWORD=x', "client_secret=*** PGPASSWORD=***"),
        ("s3://bucket: no permission for me@corp", "s3://bucket: no permission for me@corp"),
        ("at http://h:5001, models:/m@champion", "at http://h:5001, models:/m@champion"),
        ("5 tokens=7", "5 tokens=7"),
        ("nothing here", "nothing here"),
        ("http://h:5000/#/models/m@champion", "http://h:5000/#/models/m@champion"),
        ('{"a":"http://h:5000/y","b":"x@y"}', '{"a":"http://h:5000/y","b":"x@y"}'),
        ("https://me:5000@h:5000/y and x@y", "https://me:***@h:5000/y and x@y"),
        ("postgresql://me:54/2@h/db", "postgresql://me:***@h/db"),
    ],
)
def test_secrets_are_masked(text: str, masked: str) -> None:
    assert mask_secrets(text) == masked
    assert mask_secrets(masked) == masked


@pytest.mark.parametrize("password", ["pa/ss", "a b", "p%40ss", "1/2 3", "5432", "a:b", "what?", "a, b=c", "'", " x"])
def test_every_password_that_a_database_would_take_is_masked_in_its_url(password: str) -> None:
    url = f"postgresql+psycopg://me:{password}@host:5432/db?application_name=a@b"
    assert make_url(url).password is not None
    assert mask_url(url) == "postgresql+psycopg://me:***@host:5432/db?application_name=a@b"


@pytest.mark.parametrize(
    ("url", "masked"),
    [
        ("postgresql://me:a@b/c d@host/db", "postgresql://me:***@host/db"),
        ("postgresql://host/db?sslpassword=hunter, 2;x=3&user=me", "postgresql://host/db?sslpassword=***&user=me"),
        ("postgresql://me@host:5432/db", "postgresql://me@host:5432/db"),
        ("redis://:secret@host", "redis://:***@host"),
        ("sqlite:///optuna.db", "sqlite:///optuna.db"),
        ("s3://key:sec/ret@bucket/folder", "s3://key:***@bucket/folder"),
        ("s3://bucket/folder", "s3://bucket/folder"),
        ("http://127.0.0.1:5000", "http://127.0.0.1:5000"),
        ("mlruns", "mlruns"),
        ("", ""),
    ],
)
def test_a_url_keeps_everything_but_its_passwords(url: str, masked: str) -> None:
    assert mask_url(url) == masked
    assert mask_url(masked) == masked
