"""A backfill's file: what is wrong with it is said with file, line, key, found and allowed."""

import re
from pathlib import Path

import pytest

from bluegreen.core.errors import MigrationRefused
from bluegreen.migrations.backfill_file import read
from bluegreen.migrations.ports import Migration, Phase

NAME = "0001_names.backfill.yaml"
GOOD = """\
table: users
key: id
set:
  full_name: name
where: full_name IS NULL
drift: SELECT count(*) FROM users WHERE full_name IS DISTINCT FROM name
"""


def of(text):
    return read(Migration(NAME, Phase.BACKFILL, text))


def test_a_good_one():
    file = of(GOOD)
    assert (file.table, file.key, file.set, file.batch) == ("users", ("id",), {"full_name": "name"}, None)
    assert of(GOOD.replace("key: id", "key: [tenant, id]")).key == ("tenant", "id")


def test_a_column_may_be_called_token():
    assert of(GOOD.replace("full_name: name", "api_token: md5(name)")).set == {"api_token": "md5(name)"}


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("key: id", "", ": key: the key 'key' is missing; add key: column or list of columns"),
        ("key: id", "key: []", ":2: key: the list is empty"),
        ("key: id", "key: 5", ":2: key: found 5, wanted a list"),
        ("key: id", "kye: id", ":2: kye: unknown key 'kye'; did you mean 'key'?"),
        ("table: users", "table: a.b.c", ":1: table: found 'a.b.c', allowed a text like users"),
        ("full_name: name", "id: name", "set changes id of the key"),
        ("key: id", "key: [id, id]", "key names a column twice"),
        ("full_name: name", "full_name: name FROM", ":4: set.full_name: found what is no valid SQL"),
        ("full_name IS NULL", "true); DELETE FROM users; SELECT (1", ":5: where: found 3 statements, wanted one SQL"),
        ("SELECT count(*)", "DELETE", ":6: drift: found DeleteStmt, wanted one SELECT"),
        (GOOD, "", ": the file is empty; write table, key, set, where and drift"),
        ("table: users", "table: users\nbatch: 0", ":2: batch: found 0, allowed 1 to 100000"),
        ("drift:", "driftt:", "2 problems|did you mean 'drift'"),
    ],
)
def test_a_bad_one_says_where_and_what(old, new, said):
    with pytest.raises(MigrationRefused, match=said if "|" in said else re.escape(said)) as error:
        of(GOOD.replace(old, new))
    assert str(error.value).startswith(NAME)


def test_the_guides_example_is_one():
    page = (Path(__file__).parents[4] / "docs/backfill.md").read_text()
    blocks = re.findall(r"```yml\n(.*?)```", page, re.DOTALL)
    assert [of(block).table for block in blocks] == ["users"]
