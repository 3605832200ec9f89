//! Requests that are answered by HTTP's own rules, whatever the routes are: for the tests of every program that listens.

#![expect(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "it serves tests alone"
)]

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

/// How long an answer may take; a loaded machine is slow, not wrong.
const PATIENCE: Duration = Duration::from_secs(60);

/// A request without its end, and the status of its answer.
#[derive(Debug)]
pub struct Case {
    /// Its first line.
    pub line: String,
    /// Its header lines; a program's test may add some of its own.
    pub lines: &'static [&'static str],
    /// What it is answered with.
    pub status: u16,
}

/// Requests of `get`, a path that answers GET with 200 where it gets the header lines that a test adds, and of `post`, one
/// that knows POST.
#[must_use]
pub fn cases(get: &str, post: &str) -> Vec<Case> {
    const HOST: &str = "Host: localhost";
    let case = |line: String, lines, status| Case { line, lines, status };
    vec![
        case(format!("GET {get} HTTP/1.1"), &[], 400),
        case(format!("GET {get} HTTP/1.1"), &[HOST, HOST], 400),
        case(format!("GET {get} HTTP/1.1"), &["Host: a b"], 400),
        case(format!("GET {get} HTTP/1.0"), &[], 200),
        case(format!("GET http://localhost{get} HTTP/1.1"), &[HOST], 200),
        case("OPTIONS * HTTP/1.1".to_owned(), &[HOST], 204),
        case("OPTIONS * HTTP/1.0".to_owned(), &[], 204),
        case("GET * HTTP/1.1".to_owned(), &[HOST], 400),
        case(
            format!("POST {post} HTTP/1.1"),
            &[HOST, "Transfer-Encoding: gzip"],
            501,
        ),
        case(
            format!("POST {post} HTTP/1.1"),
            &[HOST, "Transfer-Encoding: gzip, chunked"],
            501,
        ),
        case(
            format!("POST {post} HTTP/1.1"),
            &[HOST, "Content-Length: 18446744073709551615"],
            413,
        ),
    ]
}

/// Sends bytes; everything that comes back until the connection closes.
#[must_use]
pub fn exchange(url: &str, request: &str) -> String {
    let mut stream = TcpStream::connect(url.trim_start_matches("http://")).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

/// The status of a request with these header lines, on a connection of its own.
#[must_use]
pub fn status(url: &str, line: &str, lines: &[&str]) -> u16 {
    let lines: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
    let answer = exchange(url, &format!("{line}\r\n{lines}Connection: close\r\n\r\n"));
    answer.split(' ').nth(1).unwrap().parse().unwrap()
}

/// A POST of `post` that is answered with `status` before its body comes: the connection closes, and what follows is not taken
/// for a request.
pub fn assert_an_early_answer_closes(url: &str, post: &str, status: u16) {
    let request = format!(
        "POST {post} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\nExpect: 100-continue\r\n\r\nGET {post} HTTP/1.1\r\n\
         Host: localhost\r\n\r\n"
    );
    let answer = exchange(url, &request).to_ascii_lowercase();
    assert!(
        answer.starts_with(&format!("http/1.1 {status}")) && answer.contains("connection: close\r\n"),
        "{answer}"
    );
    assert_eq!(answer.matches("http/1.1 ").count(), 1, "{answer}");
}
