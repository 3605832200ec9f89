//! Request bodies: the envelope around a document's data, patches of it, and a collection's settings.

use bytes::Bytes;

use super::json::{self, BODY_BYTES_MAX, JsonProblem, Member, Problems};
use super::{CollectionName, DocumentId, JsonObject, merge_patch};

/// The smallest envelope, `{"data":}`: what a result's data may not exceed 1 MiB together with.
const ENVELOPE_BYTES_MIN: usize = r#"{"data":}"#.len();

/// The body of a POST or PUT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewDocument {
    /// The client's id, if it gave one.
    pub id: Option<DocumentId>,
    /// The client's data, as it wrote it.
    pub data: JsonObject,
}

impl NewDocument {
    /// Reads the envelope. Members that the server writes are ignored, so that what was read can be written back.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn parse(body: &Bytes) -> Result<Self, Vec<JsonProblem>> {
        let mut id = None;
        let (mut data, mut data_given) = (None, false);
        let mut problems = Problems::default();
        for member in object(body)? {
            match member.name.as_ref() {
                "data" => {
                    data_given = true;
                    match json::is_object(member.value) {
                        true => data = Some(member.value),
                        false => problems.add(|| not_an_object(member.value)),
                    }
                }
                "id" => match parse_id(member.value) {
                    Ok(parsed) => id = Some(parsed),
                    Err(detail) => problems.add(|| JsonProblem::new("#/id", detail)),
                },
                "version" | "created_at" | "updated_at" => {}
                other => problems.add(|| refused(other)),
            }
        }
        if !data_given {
            problems.add(|| JsonProblem::new("#/data", "is required"));
        }
        match data {
            Some(data) if problems.is_empty() => Ok(Self {
                id,
                data: JsonObject::from_checked(body.slice_ref(data.as_bytes())),
            }),
            _ => Err(problems.into_vec()),
        }
    }

    /// Reads the envelope of a PUT to `id`.
    ///
    /// # Errors
    /// Everything that is wrong with it; an `id` that is not the path's, too.
    pub fn parse_for(body: &Bytes, id: &DocumentId) -> Result<Self, Vec<JsonProblem>> {
        let document = Self::parse(body)?;
        match &document.id {
            Some(given) if given != id => {
                Err(vec![JsonProblem::new("#/id", "differs from the id in the path")])
            }
            _ => Ok(document),
        }
    }
}

/// The body of a PATCH: a merge patch of the envelope, of which only `data` can be changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DocumentPatch {
    /// What to merge into the data; `None` leaves it as it is.
    data: Option<JsonObject>,
}

/// Why a patch can't be applied.
#[derive(Debug, thiserror::Error)]
pub enum PatchError {
    /// The result would be longer than a body may be.
    #[error("the patched document would be larger than {BODY_BYTES_MAX} bytes")]
    TooLarge,
    /// The stored text is not what was stored: a defect, or a foreign hand in the database.
    #[error("the stored data is no JSON")]
    StoredTextBroken(#[source] Option<merge_patch::NotJson>),
}

impl DocumentPatch {
    /// Reads a merge patch.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn parse(body: &Bytes) -> Result<Self, Vec<JsonProblem>> {
        let mut data = None;
        let mut problems = Problems::default();
        for member in object(body)? {
            match member.name.as_ref() {
                "data" if json::is_object(member.value) => {
                    data = Some(JsonObject::from_checked(body.slice_ref(member.value.as_bytes())));
                }
                "data" => problems.add(|| not_an_object(member.value)),
                name @ ("id" | "version" | "created_at" | "updated_at") => {
                    problems.add(|| JsonProblem::of_member(name, "is read-only"));
                }
                other => problems.add(|| refused(other)),
            }
        }
        if problems.is_empty() {
            Ok(Self { data })
        } else {
            Err(problems.into_vec())
        }
    }

    /// How long the patch's own text is.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.data.as_ref().map_or(0, |data| data.as_bytes().len())
    }

    /// The data with the patch applied. Its depth needs no check: see [`merge_patch::merge`].
    ///
    /// # Errors
    /// [`PatchError`].
    pub fn apply(&self, target: &JsonObject) -> Result<JsonObject, PatchError> {
        let Some(patch) = &self.data else {
            return Ok(target.clone());
        };
        let text = |json| std::str::from_utf8(json).map_err(|_| PatchError::StoredTextBroken(None));
        let merged = merge_patch::merge(text(target.as_bytes())?, text(patch.as_bytes())?);
        let merged = merged.map_err(|error| PatchError::StoredTextBroken(Some(error)))?;
        if merged.len() + ENVELOPE_BYTES_MIN > BODY_BYTES_MAX {
            return Err(PatchError::TooLarge);
        }
        Ok(JsonObject::from_checked(Bytes::from(merged)))
    }
}

/// Checks a collection's settings. There are none yet; members that the server writes are ignored.
///
/// # Errors
/// Everything that is wrong with them.
pub fn check_collection_settings(body: &Bytes, name: &CollectionName) -> Result<(), Vec<JsonProblem>> {
    let mut problems = Problems::default();
    for member in object(body)? {
        match member.name.as_ref() {
            "name" if json::string(member.value).as_deref() == Some(name.as_str()) => {}
            "name" => problems.add(|| JsonProblem::new("#/name", "differs from the name in the path")),
            "created_at" | "updated_at" => {}
            other => problems.add(|| JsonProblem::of_member(other, "is not a supported setting")),
        }
    }
    if problems.is_empty() {
        Ok(())
    } else {
        Err(problems.into_vec())
    }
}

fn object(body: &Bytes) -> Result<Vec<Member<'_>>, Vec<JsonProblem>> {
    let text = json::check(body)?;
    json::members(text).ok_or_else(|| {
        vec![JsonProblem::new(
            "#",
            format!("must be an object, is {}", json::kind(text)),
        )]
    })
}

fn parse_id(value: &str) -> Result<DocumentId, String> {
    let text = json::string(value).ok_or_else(|| format!("must be a string, is {}", json::kind(value)))?;
    DocumentId::parse(&text).map_err(|error| error.to_string())
}

fn not_an_object(value: &str) -> JsonProblem {
    JsonProblem::new("#/data", format!("must be an object, is {}", json::kind(value)))
}

fn refused(name: &str) -> JsonProblem {
    let detail = match name {
        "expires_at" => "is not supported yet",
        _ => "is not a member of a document's envelope; a document's own content belongs into data",
    };
    JsonProblem::of_member(name, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pointers<T: std::fmt::Debug>(result: Result<T, Vec<JsonProblem>>) -> Vec<String> {
        result
            .unwrap_err()
            .into_iter()
            .map(|problem| problem.pointer)
            .collect()
    }

    fn put(body: &'static str) -> Result<NewDocument, Vec<JsonProblem>> {
        NewDocument::parse_for(
            &Bytes::from_static(body.as_bytes()),
            &DocumentId::parse("a").unwrap(),
        )
    }

    fn patch(body: &'static str) -> Result<DocumentPatch, Vec<JsonProblem>> {
        DocumentPatch::parse(&Bytes::from_static(body.as_bytes()))
    }

    #[test]
    fn keeps_the_data_as_it_was_written() {
        let document = put(r#" {"version":7, "data" : { "b":1.0 , "a":[ 1e2 ] } ,"id":"a"}"#).unwrap();
        assert_eq!(&document.data.as_bytes()[..], br#"{ "b":1.0 , "a":[ 1e2 ] }"#);
    }

    #[test]
    fn tells_every_problem_of_an_envelope_at_once() {
        assert_eq!(
            pointers(put(r#"{"title":"x","a/b":1}"#)),
            ["#/title", "#/a~1b", "#/data"]
        );
        assert_eq!(
            pointers(put(r#"{"data":[],"expires_at":null,"id":".."}"#)),
            ["#/data", "#/expires_at", "#/id"]
        );
        assert_eq!(pointers(put(r#"{"data":{},"id":"b"}"#)), ["#/id"]);
        assert_eq!(pointers(put(r#"{"data":{},"id":1}"#)), ["#/id"]);
        assert_eq!(pointers(put("{}")), ["#/data"]);
        assert_eq!(pointers(put("[]")), ["#"]);
        assert_eq!(pointers(put(r#"{"data":{},"data":{}}"#)), ["#/data"]);
    }

    /// Also where every member of a large envelope is wrong, and where one has a name as long as a body may be.
    #[test]
    fn a_report_of_an_envelope_is_bounded_in_number_and_bytes() {
        let many: Vec<_> = (0..50_000).map(|n| format!(r#""m{n}":0"#)).collect();
        let name = CollectionName::parse("notes").unwrap();
        for body in [
            format!("{{{}}}", many.join(",")),
            format!(r#"{{"{}":0}}"#, "\u{e9}".repeat(200_000)),
        ] {
            let body = Bytes::from(body);
            for problems in [
                NewDocument::parse(&body).unwrap_err(),
                DocumentPatch::parse(&body).unwrap_err(),
                check_collection_settings(&body, &name).unwrap_err(),
            ] {
                let bytes: usize = problems.iter().map(|p| p.pointer.len() + p.detail.len()).sum();
                assert!(
                    problems.len() <= json::PROBLEMS_MAX && bytes < 32 * 1024,
                    "{bytes}"
                );
            }
        }
    }

    #[test]
    fn says_what_is_wrong_with_a_member() {
        let details = |body| -> Vec<String> {
            let problems = put(body).unwrap_err();
            problems.into_iter().map(|problem| problem.detail).collect()
        };
        assert_eq!(
            details(r#"{"data":[],"id":null,"expires_at":1}"#),
            [
                "must be an object, is an array",
                "must be a string, is null",
                "is not supported yet"
            ]
        );
        assert!(details(r#"{"data":{},"x":1}"#)[0].starts_with("is not a member of a document's envelope"));
    }

    #[test]
    fn patches_change_data_only() {
        assert_eq!(
            pointers(patch(r#"{"id":"a","version":null}"#)),
            ["#/id", "#/version"]
        );
        assert_eq!(pointers(patch(r#"{"data":null,"x":1}"#)), ["#/data", "#/x"]);
        assert_eq!(pointers(patch(r#"{"expires_at":null}"#)), ["#/expires_at"]);
        assert_eq!(pointers(patch("[]")), ["#"]);
        let target = JsonObject::from_checked(Bytes::from_static(br#"{"a": 1.0}"#));
        assert_eq!(patch("{}").unwrap().apply(&target).unwrap(), target);
        let patched = patch(r#"{"data":{"b":2}}"#).unwrap().apply(&target).unwrap();
        assert_eq!(&patched.as_bytes()[..], br#"{"a":1.0,"b":2}"#);
    }

    #[test]
    fn a_patch_may_fill_a_document_up_to_the_limit_and_not_beyond() {
        let filled = |length: usize| {
            let body = format!(r#"{{"data":{{"b":"{}"}}}}"#, "x".repeat(length));
            let target = JsonObject::from_checked(Bytes::from_static(br#"{"a":1}"#));
            DocumentPatch::parse(&Bytes::from(body)).unwrap().apply(&target)
        };
        let room = BODY_BYTES_MAX - r#"{"data":{"a":1,"b":""}}"#.len();
        assert!(filled(room).is_ok());
        assert!(matches!(filled(room + 1), Err(PatchError::TooLarge)));
    }

    #[test]
    fn a_patch_is_as_long_as_what_it_merges() {
        assert_eq!(
            patch(r#"{"data": {"b":2} }"#).unwrap().bytes(),
            r#"{"b":2}"#.len()
        );
        assert_eq!(patch("{}").unwrap().bytes(), 0);
    }

    #[test]
    fn stored_text_that_is_not_json_is_reported_and_not_patched() {
        let patch = patch(r#"{"data":{"b":2}}"#).unwrap();
        for broken in [&b"{\"a\":\xff}"[..], b"{\"a\":", b"{}{}"] {
            let target = JsonObject::from_checked(Bytes::from_static(broken));
            assert!(matches!(
                patch.apply(&target),
                Err(PatchError::StoredTextBroken(_))
            ));
        }
    }

    #[test]
    fn a_collection_has_no_settings_yet() {
        let name = CollectionName::parse("notes").unwrap();
        let check =
            |body: &'static str| check_collection_settings(&Bytes::from_static(body.as_bytes()), &name);
        assert_eq!(check("{}"), Ok(()));
        assert_eq!(
            check(r#"{"name":"notes","created_at":1,"updated_at":null}"#),
            Ok(())
        );
        assert_eq!(
            pointers(check(r#"{"name":"other","schema":{},"x":1}"#)),
            ["#/name", "#/schema", "#/x"]
        );
        assert_eq!(pointers(check("null")), ["#"]);
    }
}
