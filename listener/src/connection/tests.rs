//! Connections without a program behind them; of HTTP/2 without TLS under it, by frames written by hand.

use std::net::{Ipv4Addr, SocketAddrV4};

use poem::endpoint::{make, make_sync};
use poem::{Endpoint, Response};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;

use super::*;
use crate::{Early, EndpointService, Limits, Rooms, Tls, TlsFiles};

/// How long a test waits at most; a tenth of the idle timeout.
const SOON: Duration = Duration::from_secs(60);

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Of no settings.
const SETTINGS: &[u8] = &[0, 0, 0, 0x4, 0, 0, 0, 0, 0];
/// `:method: GET`, `:scheme: https`, `:path: /` on stream 1; END_STREAM, but not END_HEADERS.
const HEADERS: &[u8] = &[0, 0, 3, 0x1, 0x1, 0, 0, 0, 1, 0x82, 0x87, 0x84];

const ENDS: Ends = Ends {
    local: SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 1)),
    remote: SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 2)),
    tls: true,
};

/// A setting of no more than this many bytes for each answer.
fn window(bytes: u32) -> Vec<u8> {
    [&[0, 0, 6, 0x4, 0, 0, 0, 0, 0, 0, 0x4][..], &bytes.to_be_bytes()].concat()
}

/// GET on that stream, whole.
fn get(stream: u32) -> Vec<u8> {
    let block = [&[0x82, 0x87, 0x84, 0x01, 9][..], b"localhost"].concat();
    let length = u8::try_from(block.len()).unwrap();
    [&[0, 0, length, 0x1, 0x5][..], &stream.to_be_bytes(), &block].concat()
}

fn server(clock: SystemTime) -> Server {
    Server {
        name: "test",
        limits: Limits {
            header_timeout: Duration::from_millis(200),
            idle_timeout: SOON * 10,
            ..Limits::PRIVATE
        },
        rooms: Rooms::default(),
        stages: Arc::default(),
        metrics: None,
        tls: None,
        clock: Box::new(move || clock),
    }
}

fn service() -> Arc<EndpointService<impl Endpoint<Output = Response> + 'static>> {
    service_of(make_sync(|_| Response::builder().body("high tide")))
}

fn service_of<E: Endpoint<Output = Response> + 'static>(endpoint: E) -> Arc<EndpointService<E>> {
    let words = |early: Early| Response::builder().status(early.status()).body(early.detail());
    Arc::new(EndpointService::new(endpoint, words))
}

#[tokio::test]
async fn an_http2_client_that_sends_half_of_something_is_cut_long_before_an_idle_one() {
    for half in [
        b"".to_vec(),
        PREFACE[..7].to_vec(),
        [PREFACE, &SETTINGS[..5]].concat(),
        [PREFACE, SETTINGS, HEADERS].concat(),
        [PREFACE, SETTINGS, &HEADERS[..10]].concat(),
    ] {
        let (mut client, served) = tokio::io::duplex(64 * 1024);
        let serving = tokio::spawn(async move {
            serve_http2(&server(SystemTime::UNIX_EPOCH), service(), served, ENDS).await;
        });
        client.write_all(&half).await.unwrap();
        let mut answer = Vec::new();
        let read = tokio::time::timeout(SOON, client.read_to_end(&mut answer)).await;
        assert!(read.is_ok(), "still open after {half:?}");
        serving.await.unwrap();
    }
}

/// Bytes of a body that a client may send before anything is read of it, on a stream and on its connection.
async fn windows() -> [u32; 2] {
    let (mut client, served) = tokio::io::duplex(64 * 1024);
    tokio::spawn(async move { serve_http2(&server(SystemTime::UNIX_EPOCH), service(), served, ENDS).await });
    client.write_all(&[PREFACE, SETTINGS].concat()).await.unwrap();
    let [mut stream, mut connection] = [65_535; 2];
    let mut header = [0; 9];
    loop {
        client.read_exact(&mut header).await.unwrap();
        let [length_1, length_2, length_3, kind, flags, ..] = header;
        let mut payload = vec![0; u32::from_be_bytes([0, length_1, length_2, length_3]) as usize];
        client.read_exact(&mut payload).await.unwrap();
        let number = |bytes: &[u8]| u32::from_be_bytes(bytes.try_into().unwrap());
        match (kind, flags) {
            // What comes before our settings are acknowledged is the server's own.
            (0x4, 0x1) => return [stream, connection],
            (0x4, _) => {
                for setting in payload.chunks(6).filter(|setting| setting[1] == 0x4) {
                    stream = number(&setting[2..]);
                }
            }
            (0x8, _) => connection += number(&payload),
            _ => {}
        }
    }
}

/// A thousand clients whose bodies wait for room have this much held for each of them, in no budget.
#[tokio::test]
async fn what_http2_clients_may_send_before_it_is_read_is_bounded() {
    for bytes in windows().await {
        assert!((65_535..=256 * 1024).contains(&bytes), "{bytes}");
    }
}

/// Whether the server ends a connection whose client takes this much of each of a hundred answers, before it has answered the
/// last of them.
async fn is_ended(rooms: Rooms, window_bytes: u32) -> (bool, tokio::io::DuplexStream) {
    let (mut client, served) = tokio::io::duplex(1024 * 1024);
    let server = Server {
        rooms,
        ..server(SystemTime::UNIX_EPOCH)
    };
    tokio::spawn(async move { serve_http2(&server, service(), served, ENDS).await });
    let requests: Vec<u8> = (0..100).flat_map(|number| get(2 * number + 1)).collect();
    client
        .write_all(&[PREFACE, &window(window_bytes), &requests].concat())
        .await
        .unwrap();
    let mut answered = 0;
    let mut header = [0; 9];
    while answered < 100 {
        let Ok(_) = client.read_exact(&mut header).await else {
            return (true, client);
        };
        let [length_1, length_2, length_3, kind, ..] = header;
        let mut payload = vec![0; u32::from_be_bytes([0, length_1, length_2, length_3]) as usize];
        client.read_exact(&mut payload).await.unwrap();
        answered += usize::from(kind == 0x1);
    }
    (false, client)
}

#[tokio::test]
async fn answers_that_http2_clients_do_not_take_share_a_bound() {
    for window_bytes in [0, 1] {
        let rooms = Rooms::default();
        let mut open = Vec::new();
        loop {
            let (ended, client) = is_ended(rooms.clone(), window_bytes).await;
            if ended {
                break;
            }
            open.push(client);
            assert!(
                open.len() < 200,
                "a window of {window_bytes}: 20,000 answers are held"
            );
        }
        assert!(open.len() > 50, "a window of {window_bytes}: {}", open.len());
        drop(open);
        assert!(!is_ended(rooms, 1_000).await.0);
    }
}

#[tokio::test]
async fn a_target_with_a_fragment_is_refused_and_not_shortened() {
    for (target, status) in [
        ("/notes#1", 400),
        ("http://localhost/notes#", 400),
        ("/notes?a#b", 400),
        ("/notes%231", 200),
    ] {
        let (mut client, served) = tokio::io::duplex(64 * 1024);
        let serving = tokio::spawn(async move {
            serve_http1(&server(SystemTime::UNIX_EPOCH), service(), served, ENDS).await;
        });
        // The first one is served, as is what comes after it.
        let asked = |target: &str| format!("DELETE {target} HTTP/1.1\r\nHost: localhost\r\nX: a#b\r\n\r\n");
        client.write_all(asked("/").as_bytes()).await.unwrap();
        let mut first = [0; 12];
        client.read_exact(&mut first).await.unwrap();
        assert_eq!(&first, b"HTTP/1.1 200");
        client.write_all(asked(target).as_bytes()).await.unwrap();
        client.shutdown().await.unwrap();
        let mut rest = String::new();
        client.read_to_string(&mut rest).await.unwrap();
        let second = format!("HTTP/1.1 {status} ");
        assert!(rest.contains(&second), "{target}: {rest}");
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

/// A request that hangs says when it begins, and when it is given up.
struct Hanging(mpsc::UnboundedSender<&'static str>);

impl Drop for Hanging {
    fn drop(&mut self) {
        let _nobody_waits = self.0.send("given up");
    }
}

/// A server all of whose requests hang: its address, and what it says of them.
async fn all_hang(tls: Option<Arc<Tls>>) -> (SocketAddr, mpsc::UnboundedReceiver<&'static str>) {
    let (says, heard) = mpsc::unbounded_channel();
    let service = service_of(make(move |_| {
        let hanging = Hanging(says.clone());
        async move {
            let _nobody_waits = hanging.0.send("begun");
            std::future::pending::<Response>().await
        }
    }));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = Server {
        tls,
        ..server(SystemTime::UNIX_EPOCH)
    };
    tokio::spawn(server.run(listener, service));
    (address, heard)
}

/// A server's TLS, and a client that trusts it.
fn tls() -> (Arc<Tls>, TlsConnector) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let files = TlsFiles {
        cert_file: folder.path().join("cert.pem"),
        key_file: folder.path().join("key.pem"),
    };
    std::fs::write(&files.cert_file, made.cert.pem()).unwrap();
    std::fs::write(&files.key_file, made.signing_key.serialize_pem()).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let client = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    (Arc::new(Tls::load(files).unwrap()), Arc::new(client).into())
}

/// How a client goes.
#[derive(Debug, Clone, Copy)]
enum Leaves {
    /// It closes its connection.
    Quietly,
    /// It has sent a part of the next request, which nobody has read.
    SendingOn,
    /// The same, and resets it.
    Crashing,
    /// It ends TLS as TLS wants it.
    ByTls,
}

/// Sends a request that hangs, goes, and waits until the request is given up.
async fn leave(leaves: Leaves) {
    let (tls, connector) = tls();
    let by_tls = matches!(leaves, Leaves::ByTls);
    let (address, mut heard) = all_hang(by_tls.then_some(tls)).await;
    let request = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut plain = TcpStream::connect(address).await.unwrap();
    if by_tls {
        let name = "localhost".try_into().unwrap();
        let mut client = connector.connect(name, plain).await.unwrap();
        client.write_all(request).await.unwrap();
        assert_eq!(heard.recv().await, Some("begun"));
        client.shutdown().await.unwrap();
    } else {
        plain.write_all(request).await.unwrap();
        assert_eq!(heard.recv().await, Some("begun"));
        if !matches!(leaves, Leaves::Quietly) {
            plain.write_all(b"G").await.unwrap();
        }
        if matches!(leaves, Leaves::Crashing) {
            plain.set_zero_linger().unwrap();
        }
        drop(plain);
    }
    let said = tokio::time::timeout(SOON, heard.recv()).await;
    assert_eq!(said, Ok(Some("given up")), "{leaves:?}");
}

#[tokio::test]
async fn a_request_that_hangs_is_given_up_however_its_client_has_gone() {
    tokio::join!(
        leave(Leaves::Quietly),
        leave(Leaves::SendingOn),
        leave(Leaves::Crashing),
        leave(Leaves::ByTls),
    );
}
