"""A night's page in a real bucket: the store says what its parts are, so that a browser shows them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import botocore.session
import pytest

from crrg.storage import Storage
from tests.support.platform import S3Store
from tests.support.review_browser import drafted, wait_until, write_page

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Route

pytestmark = pytest.mark.e2e


@pytest.fixture
def client(s3_store: S3Store) -> Any:
    return botocore.session.get_session().create_client(
        "s3",
        endpoint_url=s3_store.endpoint_url,
        aws_access_key_id=s3_store.access_key,
        aws_secret_access_key=s3_store.secret_key,
        region_name="us-east-1",
    )


@pytest.fixture
def page(s3_store: S3Store, tmp_path: Path) -> Storage:
    """Put the page of two studies into the bucket, as a night does; return where it lies."""
    folder = write_page(tmp_path / "review", [drafted("study-a", "image-a", 30), drafted("study-b", "image-b", 90)])
    root = Storage(s3_store.new_root())
    for path in sorted(each for each in folder.parent.rglob("*") if each.is_file()):
        root.put_if_absent(f"review/{path.relative_to(folder.parent).as_posix()}", path.read_bytes())
    return root.child("review")


def test_the_store_says_what_a_page_is_made_of(client: Any, page: Storage, s3_store: S3Store) -> None:
    types = {}
    for stored in page.list_objects():
        key = urlsplit(page.url(stored.key)).path[1:]
        types[key.rpartition(".")[2]] = client.head_object(Bucket=s3_store.bucket, Key=key)["ContentType"]
    assert types == {
        "html": "text/html; charset=utf-8",
        "css": "text/css; charset=utf-8",
        "js": "text/javascript; charset=utf-8",
        "csv": "text/csv; charset=utf-8",
        "png": "image/png",
    }


def test_a_browser_shows_the_page_from_its_address_in_the_store(
    browser: Browser, client: Any, page: Storage, s3_store: S3Store
) -> None:
    place = f"/{s3_store.bucket}/"

    def sign(route: Route) -> None:
        key = urlsplit(route.request.url).path.removeprefix(place)
        route.continue_(url=client.generate_presigned_url("get_object", Params={"Bucket": s3_store.bucket, "Key": key}))

    opened = browser.new_page()
    opened.route("**/*", sign)
    opened.goto(f"{s3_store.endpoint_url}{place}{urlsplit(page.url('index.html')).path[1:]}")
    assert opened.locator(".row", has_text="study-a").is_visible()
    found = "performance.getEntriesByType('resource').find(each => each.name.endsWith('/films/image-a.png'))"
    wait_until(opened, f"{found}?.responseStatus === 200")
    assert opened.locator(".missing").count() == 0
    opened.close()
