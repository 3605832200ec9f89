//! HTTP/2 without TLS under it: frames written by hand.

use std::net::Ipv4Addr;

use poem::endpoint::make_sync;
use poem::{Endpoint, Response};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;
use crate::{Early, EndpointService, HeadRoom, Limits};

/// How long a test waits at most; a tenth of the idle timeout.
const SOON: Duration = Duration::from_secs(60);

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Of no settings.
const SETTINGS: &[u8] = &[0, 0, 0, 0x4, 0, 0, 0, 0, 0];
/// `:method: GET`, `:scheme: https`, `:path: /` on stream 1; END_STREAM, but not END_HEADERS.
const HEADERS: &[u8] = &[0, 0, 3, 0x1, 0x1, 0, 0, 0, 1, 0x82, 0x87, 0x84];

fn server(clock: SystemTime) -> Server {
    Server {
        name: "test",
        limits: Limits {
            header_timeout: Duration::from_millis(200),
            idle_timeout: SOON * 10,
            ..Limits::PRIVATE
        },
        heads: HeadRoom::default(),
        stages: Arc::default(),
        metrics: None,
        tls: None,
        clock: Box::new(move || clock),
    }
}

fn service() -> Arc<EndpointService<impl Endpoint<Output = Response> + 'static>> {
    let words = |early: Early| Response::builder().status(early.status()).body(early.detail());
    Arc::new(EndpointService::new(make_sync(|_| Response::default()), words))
}

#[tokio::test]
async fn an_http2_client_that_sends_half_of_something_is_cut_long_before_an_idle_one() {
    let ends = Ends {
        local: (Ipv4Addr::LOCALHOST, 1).into(),
        remote: (Ipv4Addr::LOCALHOST, 2).into(),
        tls: true,
    };
    for half in [
        b"".to_vec(),
        PREFACE[..7].to_vec(),
        [PREFACE, &SETTINGS[..5]].concat(),
        [PREFACE, SETTINGS, HEADERS].concat(),
        [PREFACE, SETTINGS, &HEADERS[..10]].concat(),
    ] {
        let (mut client, served) = tokio::io::duplex(64 * 1024);
        let serving = tokio::spawn(async move {
            serve_http2(&server(SystemTime::UNIX_EPOCH), service(), served, ends).await;
        });
        client.write_all(&half).await.unwrap();
        let mut answer = Vec::new();
        let read = tokio::time::timeout(SOON, client.read_to_end(&mut answer)).await;
        assert!(read.is_ok(), "still open after {half:?}");
        serving.await.unwrap();
    }
}

#[tokio::test]
async fn where_http_has_no_date_every_request_is_told_so() {
    let year = Duration::from_secs(366 * 24 * 3_600);
    for clock in [
        SystemTime::UNIX_EPOCH - year,
        SystemTime::UNIX_EPOCH + year * 8_050,
    ] {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = tokio::spawn(server(clock).run(listener, service()));
        let mut client = TcpStream::connect(address).await.unwrap();
        client
            .write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            .await
            .unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 500 "), "{answer}");
        assert!(answer.contains("clock of this machine"), "{answer}");
        serving.abort();
    }
}

#[test]
fn http_has_dates_from_1970_to_9999() {
    let at = |secs| Clock::at(SystemTime::UNIX_EPOCH + Duration::from_secs(secs));
    assert_eq!(at(0), Clock::Dates);
    assert_eq!(at(253_402_300_799), Clock::Dates);
    assert_eq!(at(253_402_300_800), Clock::NoDates);
    let before = SystemTime::UNIX_EPOCH - Duration::from_nanos(1);
    assert_eq!(Clock::at(before), Clock::NoDates);
}
