// openapi-typescript's types with openapi-fetch.
import createClient from "openapi-fetch";
import { base, check, end, EXACT, NOT_FOUND } from "./checks";
import type { paths } from "./generated/schema";

const client = createClient<paths>({ baseUrl: base });
const path = { collection: "fetch", id: "a" };
const DOCUMENT = "/v1/collections/{collection}/documents/{id}";
const DOCUMENTS = "/v1/collections/{collection}/documents";
const COLLECTION = "/v1/collections/{collection}";
const mergePatch = { "Content-Type": "application/merge-patch+json" };

const made = await client.PUT(COLLECTION, { params: { path }, body: {} });
check("create a collection", [made.response.status, made.data?.name], [201, "fetch"]);

const put = await client.PUT(DOCUMENT, { params: { path }, body: { data: { title: "a", done: false } } });
check("put", [put.response.status, put.data?.data], [201, { title: "a", done: false }]);
const etag = put.response.headers.get("etag") ?? "";

const got = await client.GET(DOCUMENT, { params: { path } });
check("get", [got.data?.id, got.response.headers.get("etag")], ["a", etag]);
const same = await client.GET(DOCUMENT, { params: { path, header: { "If-None-Match": etag } } });
check("get if changed", [same.response.status, same.data, same.error], [304, undefined, ""]);

const patched = await client.PATCH(DOCUMENT, {
  params: { path, header: { "If-Match": etag } },
  body: { data: { done: true, title: null } },
  headers: mergePatch,
});
check("patch", [patched.response.status, patched.data?.data], [200, { done: true }]);
const late = await client.PUT(DOCUMENT, {
  params: { path, header: { "If-Match": etag } },
  body: { data: {} },
});
check("put with an old ETag", [late.response.status, late.error?.status], [412, 412]);

const posted = await client.POST(DOCUMENTS, { params: { path }, body: { id: "b", data: { n: 1 } } });
check("post", [posted.response.status, posted.response.headers.get("location")], [201, "/v1/collections/fetch/documents/b"]);
const ids: string[] = [];
let page_token: string | undefined;
do {
  const page = await client.GET(DOCUMENTS, { params: { path, query: { limit: 1, page_token } } });
  ids.push(...(page.data?.items ?? []).map((item) => item.id));
  page_token = page.data?.next_page_token;
} while (page_token);
check("pages", ids.sort(), ["a", "b"]);

const head = await client.HEAD(DOCUMENT, { params: { path } });
check("head", [head.response.status, head.response.headers.get("etag")], [200, patched.response.headers.get("etag")]);

const exact = await client.PUT(DOCUMENT, {
  params: { path },
  body: { data: {} },
  bodySerializer: () => EXACT,
});
check("put of a long integer", exact.response.status, 200);
const text = await client.GET(DOCUMENT, { params: { path }, parseAs: "text" });
check("get as text", String(text.data).includes('"data":{"n":9007199254740993,"x":1.0}'), true);

const missing = await client.GET(DOCUMENT, { params: { path: { ...path, id: "none" } } });
check("a problem", [missing.response.status, missing.error?.type], [404, NOT_FOUND]);
const wrong = await client.GET(DOCUMENTS, { params: { path, query: { limit: 0 } } });
check("an invalid query", [wrong.response.status, wrong.error?.request_id.length], [400, 32]);

const gone = await client.DELETE(DOCUMENT, { params: { path } });
check("delete", [gone.response.status, gone.error], [204, undefined]);
const dropped = await client.DELETE(COLLECTION, { params: { path } });
check("drop", dropped.response.status, 204);
end();
