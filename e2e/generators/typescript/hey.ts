// hey-api's client.
import { base, check, end, EXACT, NOT_FOUND } from "./checks";
import { client } from "./generated/hey/client.gen";
import * as api from "./generated/hey/sdk.gen";

client.setConfig({ baseUrl: base });
const path = { collection: "hey", id: "a" };

const made = await api.putCollection({ path, body: {} });
check("create a collection", [made.response?.status, made.data?.name], [201, "hey"]);

const put = await api.putDocument({ path, body: { data: { title: "a", done: false } } });
check("put", [put.response?.status, put.data?.data], [201, { title: "a", done: false }]);
const etag = put.response?.headers.get("etag") ?? "";

const got = await api.getDocument({ path });
check("get", [got.data?.id, got.response?.headers.get("etag")], ["a", etag]);
const same = await api.getDocument({ path, headers: { "If-None-Match": etag } });
check("get if changed", same.response?.status, 304);

const patched = await api.patchDocument({
  path,
  headers: { "If-Match": etag },
  body: { data: { done: true, title: null } },
});
check("patch", [patched.response?.status, patched.data?.data], [200, { done: true }]);
const late = await api.putDocument({ path, headers: { "If-Match": etag }, body: { data: {} } });
check("put with an old ETag", [late.response?.status, late.error?.status], [412, 412]);

const posted = await api.createDocument({ path, body: { id: "b", data: { n: 1 } } });
check("post", [posted.response?.status, posted.data?.id], [201, "b"]);
const ids: string[] = [];
let page_token: string | undefined;
do {
  const page = await api.listDocuments({ path, query: { limit: 1, page_token } });
  ids.push(...(page.data?.items ?? []).map((item) => item.id));
  page_token = page.data?.next_page_token;
} while (page_token);
check("pages", ids.sort(), ["a", "b"]);

const head = await api.headDocument({ path });
check("head", [head.response?.status, head.response?.headers.get("etag")], [200, patched.response?.headers.get("etag")]);

const exact = await api.putDocument({ path, body: { data: {} }, bodySerializer: () => EXACT });
check("put of a long integer", exact.response?.status, 200);
const text = await api.getDocument({ path, parseAs: "text" });
check("get as text", String(text.data).includes('"data":{"n":9007199254740993,"x":1.0}'), true);

const missing = await api.getDocument({ path: { ...path, id: "none" } });
check("a problem", [missing.response?.status, missing.error?.type], [404, NOT_FOUND]);
const wrong = await api.listDocuments({ path, query: { limit: 0 } });
check("an invalid query", [wrong.response?.status, wrong.error?.request_id.length], [400, 32]);

const gone = await api.deleteDocument({ path });
check("delete", [gone.response?.status, gone.error], [204, undefined]);
const dropped = await api.deleteCollection({ path });
check("drop", dropped.response?.status, 204);
end();
