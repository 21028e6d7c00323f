"""Which clients get JSON while their session is not running."""

from __future__ import annotations

import pytest
from tornado.httputil import HTTPHeaders

from gridhub.hub.strays import FORM, wants_json


@pytest.mark.parametrize(
    ("form", "method", "path", "expected"),
    [
        # nginx has decided.
        ("json1", "GET", "/user/alice/lab", True),
        ("page1", "GET", "/user/alice/lab/tree/api/x.ipynb", False),
        ("page1", "POST", "/user/alice/app", False),
        # The request has not come through nginx.
        ("", "GET", "/user/alice/lab", False),
        ("", "GET", "/user/alice/api/contents", True),
        ("", "PUT", "/user/alice/x", True),
    ],
)
def test_programs_get_json_and_people_pages(
    form: str, method: str, path: str, expected: bool
) -> None:
    headers = HTTPHeaders({FORM: form} if form else {})
    assert wants_json(method, path, headers) is expected
