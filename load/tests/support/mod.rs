//! A bare document server in memory, on a free port, that misbehaves on demand. Nothing of Tidepool is in it.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// How the server treats the requests to come.
#[derive(Debug, Clone, PartialEq)]
pub enum Mood {
    /// It does what was asked.
    Fine,
    /// It answers after a while.
    Slow(Duration),
    /// It answers 502 to every POST, naming a member or not, after doing what was asked (or not).
    BadGateway { member: Option<String>, stored: bool },
    /// It answers every PUT with success and forgets it.
    Forgetful,
    /// It never answers.
    Stuck,
}

/// The running server; it ends with the runtime.
pub struct BareServer {
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
}

struct State {
    mood: Mood,
    requests: u64,
    documents: BTreeMap<String, Value>,
}

impl BareServer {
    /// Listens on a free port.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State {
            mood: Mood::Fine,
            requests: 0,
            documents: BTreeMap::new(),
        }));
        let shared = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let state = Arc::clone(&shared);
                let service = service_fn(move |request| answer(Arc::clone(&state), request));
                tokio::spawn(async move {
                    // A client that goes away is not a concern of this server.
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Self { address, state }
    }

    pub fn set_mood(&self, mood: Mood) {
        self.state.lock().unwrap().mood = mood;
    }

    pub fn requests(&self) -> u64 {
        self.state.lock().unwrap().requests
    }

    pub fn target(&self) -> String {
        format!("http://{}", self.address)
    }
}

async fn answer(
    state: Arc<Mutex<State>>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let body = request
        .into_body()
        .collect()
        .await
        .map(|body| body.to_bytes())
        .unwrap_or_default();
    let mood = {
        let mut state = state.lock().unwrap();
        state.requests += 1;
        state.mood.clone()
    };
    match &mood {
        Mood::Slow(delay) => tokio::time::sleep(*delay).await,
        Mood::Stuck => std::future::pending().await,
        _ => {}
    }
    let mut state = state.lock().unwrap();
    if let (Mood::BadGateway { member, stored }, &Method::POST) = (&mood, &method) {
        if *stored {
            serve(&mut state, &mood, &method, &path, &body);
        }
        let mut response = Response::builder().status(502);
        if let Some(member) = member {
            response = response.header("x-lb-member", member);
        }
        return Ok(response.body(Full::default()).unwrap());
    }
    let (status, json) = serve(&mut state, &mood, &method, &path, &body);
    let kind = if status < 300 {
        "application/json"
    } else {
        "application/problem+json"
    };
    let response = Response::builder().status(status).header("content-type", kind);
    Ok(response.body(Full::from(json.to_string())).unwrap())
}

fn serve(state: &mut State, mood: &Mood, method: &Method, path: &str, body: &[u8]) -> (u16, Value) {
    let parts: Vec<&str> = path.trim_start_matches("/v1/collections/").split('/').collect();
    let sent: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
    let envelope = |id: &str| json!({"id": id, "version": "v", "data": sent["data"]});
    match (method, parts.as_slice()) {
        (&Method::PUT, [_]) => (201, json!({})),
        (&Method::GET, [_, "documents"]) => {
            let items: Vec<_> = state.documents.values().take(20).cloned().collect();
            (200, json!({"items": items}))
        }
        (&Method::POST, [_, "documents"]) => {
            let id = sent["id"].as_str().unwrap().to_owned();
            let document = envelope(&id);
            state.documents.insert(id, document.clone());
            (201, document)
        }
        (&Method::PUT, [_, "documents", id]) => {
            let document = envelope(id);
            let replaced = state.documents.contains_key(*id);
            if !(replaced && *mood == Mood::Forgetful) {
                state.documents.insert((*id).to_owned(), document.clone());
            }
            (if replaced { 200 } else { 201 }, document)
        }
        (&Method::GET, [_, "documents", id]) => match state.documents.get(*id) {
            Some(document) => (200, document.clone()),
            None => (404, json!({"status": 404})),
        },
        _ => (405, json!({"status": 405})),
    }
}
