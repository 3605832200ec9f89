//! One call: its path, query and body, decoded once; and what it is answered with.

use http::{Method, StatusCode};
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value};

use super::catalog;
use super::error::ApiError;

/// A call whose parts are decoded.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) method: Method,
    /// The path's segments, decoded one by one: a name may hold any character, a slash too.
    pub(crate) path: Vec<String>,
    /// The query in its order.
    pub(crate) query: Vec<(String, String)>,
    /// The body's object; empty without a body.
    pub(crate) body: Map<String, Value>,
    /// `http://host:port`, for links.
    pub(crate) base: String,
}

/// A successful answer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    /// None for 204.
    pub(crate) body: Option<Value>,
}

/// What a handler returns.
pub(crate) type Result<T = Answer> = std::result::Result<T, ApiError>;

impl Answer {
    pub(crate) fn ok(body: Value) -> Result {
        Ok(Self {
            status: StatusCode::OK,
            body: Some(body),
        })
    }

    pub(crate) fn created(body: Value) -> Result {
        Ok(Self {
            status: StatusCode::CREATED,
            body: Some(body),
        })
    }

    pub(crate) fn accepted(body: Value) -> Result {
        Ok(Self {
            status: StatusCode::ACCEPTED,
            body: Some(body),
        })
    }

    pub(crate) fn no_content() -> Result {
        Ok(Self {
            status: StatusCode::NO_CONTENT,
            body: None,
        })
    }
}

impl Call {
    /// The last value of a query parameter; an empty one counts as absent.
    pub(crate) fn param(&self, name: &str) -> Option<&str> {
        let found = self.query.iter().rev().find(|(key, _)| key == name);
        found
            .map(|(_, value)| value.as_str())
            .filter(|value| !value.is_empty())
    }

    /// A text of the body; null and empty count as absent.
    ///
    /// # Errors
    /// When it is something else.
    pub(crate) fn text(&self, name: &str) -> Result<Option<&str>> {
        text_of(&self.body, name)
    }

    /// A text that must be there.
    ///
    /// # Errors
    /// When it is absent, blank or something else.
    pub(crate) fn needed_text(&self, name: &str) -> Result<&str> {
        self.text(name)?
            .filter(|text| !text.trim().is_empty())
            .ok_or_else(|| ApiError::unprocessable(format!("{name} can't be blank")))
    }

    /// A text that may be set to nothing: `Some("")` when it was sent empty, None when it was not sent.
    ///
    /// # Errors
    /// When it is something else.
    pub(crate) fn clearable_text(&self, name: &str) -> Result<Option<&str>> {
        match self.body.get(name) {
            Some(Value::String(text)) => Ok(Some(text.as_str())),
            _ => self.text(name),
        }
    }

    /// The region of the body, by its own slug; absent and null are none.
    ///
    /// # Errors
    /// `refusal` when there is no such region; an empty text names none either.
    pub(crate) fn region(&self, refusal: &str) -> Result<Option<&'static str>> {
        match self.body.get("region") {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => catalog::region_of(text)
                .map(Some)
                .ok_or_else(|| ApiError::unprocessable(refusal)),
            Some(_) => Err(ApiError::unprocessable("region must be a string")),
        }
    }

    /// Refuses a field that asks for something; absent, null, false, empty texts, lists and objects ask for nothing.
    ///
    /// # Errors
    /// 422 with the field's name and the reason.
    pub(crate) fn refuse(&self, name: &str, reason: &str) -> Result<()> {
        let asks = match self.body.get(name) {
            None | Some(Value::Null) => false,
            Some(Value::Bool(on)) => *on,
            Some(Value::String(text)) => !text.is_empty(),
            Some(Value::Array(list)) => !list.is_empty(),
            Some(Value::Object(object)) => !object.is_empty(),
            Some(Value::Number(_)) => true,
        };
        if asks {
            return Err(ApiError::unprocessable(format!("{name}: {reason}")));
        }
        Ok(())
    }

    /// A list of the body; absent and null are an empty one.
    ///
    /// # Errors
    /// When it is something else.
    pub(crate) fn list(&self, name: &str) -> Result<&[Value]> {
        list_of(&self.body, name)
    }

    /// A list of texts of the body; absent and null are an empty one.
    ///
    /// # Errors
    /// When it is something else.
    pub(crate) fn texts(&self, name: &str) -> Result<Vec<&str>> {
        texts_of(&self.body, name)
    }

    /// A list that must be there; it may be empty.
    ///
    /// # Errors
    /// When it is absent or something else.
    pub(crate) fn needed_list(&self, name: &str) -> Result<&[Value]> {
        match self.body.get(name) {
            None | Some(Value::Null) => Err(ApiError::unprocessable(format!("{name} must be a list"))),
            Some(_) => self.list(name),
        }
    }

    /// A switch of the body; absent and null are off.
    ///
    /// # Errors
    /// When it is something else.
    pub(crate) fn switch(&self, name: &str) -> Result<bool> {
        Ok(self.optional_switch(name)?.unwrap_or(false))
    }

    /// A switch of the body that has no default; absent and null are none.
    ///
    /// # Errors
    /// When it is something else.
    pub(crate) fn optional_switch(&self, name: &str) -> Result<Option<bool>> {
        optional_switch_of(&self.body, name)
    }
}

/// A text of an object; null and empty count as absent.
///
/// # Errors
/// When it is something else.
pub(crate) fn text_of<'a>(object: &'a Map<String, Value>, name: &str) -> Result<Option<&'a str>> {
    match object.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.as_str()).filter(|text| !text.is_empty())),
        Some(_) => Err(ApiError::unprocessable(format!("{name} must be a string"))),
    }
}

/// A list of an object; absent and null are an empty one.
///
/// # Errors
/// When it is something else.
pub(crate) fn list_of<'a>(object: &'a Map<String, Value>, name: &str) -> Result<&'a [Value]> {
    match object.get(name) {
        None | Some(Value::Null) => Ok(&[]),
        Some(Value::Array(list)) => Ok(list),
        Some(_) => Err(ApiError::unprocessable(format!("{name} must be a list"))),
    }
}

/// A list of texts of an object; absent and null are an empty one.
///
/// # Errors
/// When it is something else.
pub(crate) fn texts_of<'a>(object: &'a Map<String, Value>, name: &str) -> Result<Vec<&'a str>> {
    let texts: Option<Vec<&str>> = list_of(object, name)?.iter().map(Value::as_str).collect();
    texts.ok_or_else(|| ApiError::unprocessable(format!("{name} must be a list of strings")))
}

/// A switch of an object; absent and null are off.
///
/// # Errors
/// When it is something else.
pub(crate) fn switch_of(object: &Map<String, Value>, name: &str) -> Result<bool> {
    Ok(optional_switch_of(object, name)?.unwrap_or(false))
}

fn optional_switch_of(object: &Map<String, Value>, name: &str) -> Result<Option<bool>> {
    match object.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Bool(on)) => Ok(Some(*on)),
        Some(_) => Err(ApiError::unprocessable(format!("{name} must be true or false"))),
    }
}

/// A number in `from..=to`; absent, null and 0 give `default`, as godo leaves zeros out.
///
/// # Errors
/// When it is something else.
pub(crate) fn number_of(object: &Map<String, Value>, name: &str, bounds: NumberBounds) -> Result<u64> {
    let wrong = || {
        let (from, to) = (bounds.from, bounds.to);
        ApiError::unprocessable(format!("{name} must be a number from {from} to {to}"))
    };
    match object.get(name) {
        None | Some(Value::Null) => Ok(bounds.default),
        Some(value) => match value.as_u64().ok_or_else(wrong)? {
            0 => Ok(bounds.default),
            number if (bounds.from..=bounds.to).contains(&number) => Ok(number),
            _ => Err(wrong()),
        },
    }
}

/// What a number may be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NumberBounds {
    pub(crate) from: u64,
    pub(crate) to: u64,
    pub(crate) default: u64,
}

/// Decodes `%xx`; what is not UTF-8 becomes the replacement character and matches nothing.
pub(crate) fn decode(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

/// Splits and decodes a query; `+` is a space there.
pub(crate) fn parse_query(query: &str) -> Vec<(String, String)> {
    let decode_part = |part: &str| decode(&part.replace('+', " "));
    query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode_part(key), decode_part(value))
        })
        .collect()
}
