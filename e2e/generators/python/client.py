"""openapi-python-client's client; the folder of the generated package `generated` is on the path, the server is the argument."""

import sys

from generated import Client
from generated.api.collections import delete_collection, put_collection
from generated.api.documents import (
    create_document,
    delete_document,
    get_document,
    head_document,
    list_documents,
    patch_document,
    put_document,
)
from generated.models import CollectionSettings, Data, Document, DocumentCreate, DocumentPatch, DocumentPut, Problem

passed = failed = 0


def check(what, seen, expected):
    global passed, failed
    if seen == expected:
        passed += 1
    else:
        failed += 1
        print(f"FAILED: {what}: {seen!r}, not {expected!r}")


def data(**members):
    made = Data()
    made.additional_properties = members
    return made


client = Client(base_url=sys.argv[1])
at = ("python", "a")

made = put_collection.sync_detailed("python", client=client, body=CollectionSettings())
check("create a collection", (made.status_code, made.parsed.name), (201, "python"))

put = put_document.sync_detailed(*at, client=client, body=DocumentPut(data=data(title="a", done=False)))
check("put", (put.status_code, put.parsed.data.to_dict()), (201, {"title": "a", "done": False}))
etag = put.headers["etag"]

got = get_document.sync_detailed(*at, client=client)
check("get", (type(got.parsed), got.parsed.id, got.headers["etag"]), (Document, "a", etag))
same = get_document.sync_detailed(*at, client=client, if_none_match=etag)
check("get if changed", same.status_code, 304)

change = DocumentPatch(data=data(done=True, title=None))
patched = patch_document.sync_detailed(*at, client=client, body=change, if_match=etag)
check("patch", (patched.status_code, patched.parsed.data.to_dict()), (200, {"done": True}))
late = put_document.sync_detailed(*at, client=client, body=DocumentPut(data=data()), if_match=etag)
check("put with an old ETag", (late.status_code, late.parsed.status), (412, 412))

# What was read can be written back, with its own data.
back = put_document.sync_detailed(*at, client=client, body=DocumentPut(data=patched.parsed.data, version=patched.parsed.version))
check("put what was read", back.status_code, 200)

posted = create_document.sync_detailed("python", client=client, body=DocumentCreate(id="b", data=data(n=1)))
check("post", (posted.status_code, posted.headers["location"]), (201, "/v1/collections/python/documents/b"))
ids, more = [], {}
while True:
    page = list_documents.sync("python", client=client, limit=1, **more)
    ids += [item.id for item in page.items]
    if not page.next_page_token:
        break
    more = {"page_token": page.next_page_token}
check("pages", sorted(ids), ["a", "b"])

head = head_document.sync_detailed(*at, client=client)
check("head", (head.status_code, head.headers["etag"]), (200, back.headers["etag"]))

big = data(n=9007199254740993, most=18446744073709551615)
put_document.sync_detailed(*at, client=client, body=DocumentPut(data=big))
got = get_document.sync(*at, client=client)
check("long integers", got.data.to_dict(), {"n": 9007199254740993, "most": 18446744073709551615})

missing = get_document.sync_detailed("python", "none", client=client)
check("a problem", (type(missing.parsed), missing.parsed.type_), (Problem, "urn:tidepool:problem:document-not-found"))
wrong = list_documents.sync_detailed("python", client=client, limit=0)
check("an invalid query", (wrong.status_code, len(wrong.parsed.request_id)), (400, 32))

gone = delete_document.sync_detailed(*at, client=client)
check("delete", (gone.status_code, gone.content), (204, b""))
check("drop", delete_collection.sync_detailed("python", client=client).status_code, 204)
print(f"{passed} passed, {failed} failed, 0 skipped")
sys.exit(1 if failed else 0)
