//! The name server: what it answers, and what it does about those who mean it harm.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use hickory_proto::op::{Edns, Message, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::common::{Cloud, PATIENCE, by_systemd};

/// How long is waited for a datagram before it is sent again: one may be lost.
const AGAIN_AFTER: Duration = Duration::from_secs(5);

async fn server_of(cloud: &Cloud) -> SocketAddr {
    cloud
        .get("/_local/state")
        .await
        .text("/name_server")
        .parse()
        .unwrap()
}

async fn create(cloud: &Cloud, body: Value) -> String {
    let reply = cloud.post("/v2/domains/a.example/records", body).await;
    assert_eq!(reply.status, 201, "{reply:?}");
    format!(
        "/v2/domains/a.example/records/{}",
        reply.number("/domain_record/id")
    )
}

async fn cloud_with_domain() -> Cloud {
    let cloud = Cloud::start(&[]);
    let reply = cloud.post("/v2/domains", json!({"name": "a.example"})).await;
    assert_eq!(reply.status, 201, "{reply:?}");
    cloud
}

fn question(name: &str, kind: RecordType) -> Message {
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message
}

/// Sends a datagram and reads the next one; None when nothing comes.
fn exchange(socket: &UdpSocket, bytes: &[u8]) -> Option<Message> {
    socket.send(bytes).unwrap();
    let mut buffer = [0; 65_535];
    let length = socket.recv(&mut buffer).ok()?;
    Some(Message::from_vec(&buffer[..length]).unwrap())
}

fn socket_to(server: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.connect(server).unwrap();
    socket.set_read_timeout(Some(AGAIN_AFTER)).unwrap();
    socket
}

fn ask(server: SocketAddr, message: &Message) -> Message {
    let socket = socket_to(server);
    let bytes = message.to_vec().unwrap();
    let mut answers = std::iter::repeat_with(|| exchange(&socket, &bytes))
        .take(20)
        .flatten();
    let answer = answers.find(|answer| answer.metadata.id == message.metadata.id);
    answer.expect("an answer")
}

fn send_by_tcp(stream: &mut TcpStream, bytes: &[u8]) {
    let length = u16::try_from(bytes.len()).unwrap();
    stream.write_all(&length.to_be_bytes()).unwrap();
    stream.write_all(bytes).unwrap();
}

fn read_by_tcp(stream: &mut TcpStream) -> std::io::Result<Message> {
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut bytes = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut bytes)?;
    Ok(Message::from_vec(&bytes).unwrap())
}

fn connect(server: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(server).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// The addresses that a name has.
fn addresses(server: SocketAddr, name: &str) -> Vec<String> {
    let answer = ask(server, &question(name, RecordType::A));
    let found = answer.answers.iter().filter_map(|record| match &record.data {
        RData::A(address) => Some(address.to_string()),
        _ => None,
    });
    found.collect()
}

fn code(server: SocketAddr, name: &str) -> ResponseCode {
    ask(server, &question(name, RecordType::A)).metadata.response_code
}

/// A record, the question that finds it, and what is answered.
const KINDS: [(&str, RecordType, &str, &str); 8] = [
    (
        r#"{"type": "A", "name": "api", "data": "10.0.0.1", "ttl": 30}"#,
        RecordType::A,
        "api",
        "10.0.0.1",
    ),
    (
        r#"{"type": "AAAA", "name": "api", "data": "2001:db8::1"}"#,
        RecordType::AAAA,
        "api",
        "2001:db8::1",
    ),
    (
        r#"{"type": "CNAME", "name": "www", "data": "api.a.example."}"#,
        RecordType::CNAME,
        "www",
        "api.a.example.",
    ),
    (
        r#"{"type": "MX", "name": "m", "data": "@", "priority": 5}"#,
        RecordType::MX,
        "m",
        "5 a.example.",
    ),
    (
        r#"{"type": "NS", "name": "ns", "data": "ns1.b.example."}"#,
        RecordType::NS,
        "ns",
        "ns1.b.example.",
    ),
    (
        r#"{"type": "SRV", "name": "_x._tcp", "data": "b.example.", "priority": 1, "weight": 2, "port": 3}"#,
        RecordType::SRV,
        "_x._tcp",
        "1 2 3 b.example.",
    ),
    (
        r#"{"type": "TXT", "name": "t", "data": "v=1; a"}"#,
        RecordType::TXT,
        "t",
        "v=1; a",
    ),
    (
        r#"{"type": "CAA", "name": "c", "data": "ca.example.", "flags": 0, "tag": "issue"}"#,
        RecordType::CAA,
        "c",
        "0 issue \"ca.example\"",
    ),
];

#[tokio::test]
async fn every_kind_of_record_is_answered() {
    let cloud = cloud_with_domain().await;
    let server = server_of(&cloud).await;
    for (body, kind, name, said) in KINDS {
        create(&cloud, serde_json::from_str(body).unwrap()).await;
        let answer = ask(server, &question(&format!("{name}.A.example."), kind));
        // Another server's part is not answered but said to be another's.
        let delegated = kind == RecordType::NS;
        let records = if delegated {
            &answer.authorities
        } else {
            &answer.answers
        };
        let texts: Vec<String> = records.iter().map(|record| record.data.to_string()).collect();
        assert_eq!(texts, [said], "{kind}");
        let metadata = answer.metadata;
        assert_eq!(metadata.response_code, ResponseCode::NoError);
        assert_eq!(metadata.authoritative, !delegated, "{kind}");
        assert!(metadata.recursion_desired && !metadata.recursion_available);
    }
    let answer = ask(server, &question("api.a.example.", RecordType::A));
    assert_eq!(answer.answers[0].ttl, 30);
}

fn serial(server: SocketAddr) -> u32 {
    let soa = ask(server, &question("a.example.", RecordType::SOA));
    match &soa.answers[0].data {
        RData::SOA(soa) => soa.serial,
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn each_change_is_answered_at_once_and_kept() {
    let mut cloud = cloud_with_domain().await;
    let server = server_of(&cloud).await;
    let api = create(&cloud, json!({"type": "A", "name": "api", "data": "10.0.0.1"})).await;
    create(
        &cloud,
        json!({"type": "CNAME", "name": "www", "data": "api.a.example."}),
    )
    .await;
    assert_eq!(addresses(server, "www.a.example."), ["10.0.0.1"]);
    let before = serial(server);
    cloud.put(&api, json!({"data": "10.0.0.2"})).await;
    assert_eq!(addresses(server, "www.a.example."), ["10.0.0.2"]);
    assert!(serial(server) > before);
    cloud.stop(Signal::SIGKILL);
    cloud.start_again();
    assert_eq!(server_of(&cloud).await, server, "where it was");
    assert_eq!(addresses(server, "www.a.example."), ["10.0.0.2"]);
    cloud.delete(&api).await;
    assert_eq!(code(server, "api.a.example."), ResponseCode::NXDomain);
    cloud.delete("/v2/domains/a.example").await;
    for name in ["api.a.example.", "a.example.", "example.com.", "."] {
        assert_eq!(code(server, name), ResponseCode::Refused, "{name}");
    }
}

#[tokio::test]
async fn a_long_answer_is_cut_by_udp_and_whole_by_tcp() {
    let cloud = cloud_with_domain().await;
    let server = server_of(&cloud).await;
    for last in 0..60 {
        let body = json!({"type": "A", "name": "many", "data": format!("10.0.0.{last}")});
        create(&cloud, body).await;
    }
    let mut asked = question("many.a.example.", RecordType::A);
    let cut = ask(server, &asked);
    assert!(cut.metadata.truncation && cut.answers.is_empty(), "{cut:?}");
    let mut edns = Edns::new();
    edns.set_max_payload(4_096);
    asked.set_edns(edns);
    let whole = ask(server, &asked);
    assert_eq!((whole.metadata.truncation, whole.answers.len()), (false, 60));
    assert_eq!(
        whole.edns.unwrap().max_payload(),
        1_232,
        "what the server takes itself"
    );
    let mut stream = connect(server);
    // Two at once, and in parts, are two questions all the same.
    let bytes = asked.to_vec().unwrap();
    for _time in 0..2 {
        send_by_tcp(&mut stream, &bytes);
    }
    for _time in 0..2 {
        assert_eq!(read_by_tcp(&mut stream).unwrap().answers.len(), 60);
    }
    let (head, rest) = bytes.split_at(5);
    stream
        .write_all(&u16::try_from(bytes.len()).unwrap().to_be_bytes())
        .unwrap();
    stream.write_all(head).unwrap();
    stream.flush().unwrap();
    stream.write_all(rest).unwrap();
    assert_eq!(read_by_tcp(&mut stream).unwrap().answers.len(), 60);
}

/// A message with this head after its id, and this after it.
fn raw(flags: u16, counts: [u16; 4], rest: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0xab, 0xcd];
    for number in [flags, counts[0], counts[1], counts[2], counts[3]] {
        bytes.extend(number.to_be_bytes());
    }
    bytes.extend(rest);
    bytes
}

/// What it is, the message, and how it is answered: None not at all.
type Case = (&'static str, Vec<u8>, Option<ResponseCode>);

/// Number 16 means this where options are answered; the library reads its other meaning.
const BAD_VERSION: ResponseCode = ResponseCode::BADSIG;

/// The question for the root's address, after the head.
const ROOT: [u8; 5] = [0, 0, 1, 0, 1];
const ONE: [u16; 4] = [1, 0, 0, 0];

/// Names that are none.
fn bad_names() -> Vec<Case> {
    let labels: Vec<u8> = std::iter::repeat_n([&[63][..], &[b'a'; 63]].concat(), 4)
        .flatten()
        .collect();
    let too_long = [&labels[..], &ROOT].concat();
    vec![
        ("no type", raw(0, ONE, &[0]), Some(ResponseCode::FormErr)),
        (
            "a name that ends in the middle",
            raw(0, ONE, &[9, b'a']),
            Some(ResponseCode::FormErr),
        ),
        (
            "a name that points to itself",
            raw(0, ONE, &[0xc0, 12, 0, 1, 0, 1]),
            Some(ResponseCode::FormErr),
        ),
        (
            "a name that points ahead",
            raw(0, ONE, &[0xc0, 200, 0, 1, 0, 1]),
            Some(ResponseCode::FormErr),
        ),
        (
            "a name of 257 bytes",
            raw(0, ONE, &too_long),
            Some(ResponseCode::FormErr),
        ),
        (
            "a label of a kind that there is not",
            raw(0, ONE, &[0x80, 1, 0, 0, 1, 0, 1]),
            Some(ResponseCode::FormErr),
        ),
    ]
}

/// Messages that are wrong in other ways.
fn bad_messages() -> Vec<Case> {
    let options = |version: u8| [&ROOT[..], &[0, 0, 41, 4, 208, 0, version, 0, 0, 0, 0]].concat();
    vec![
        ("nothing", vec![], None),
        ("an id", vec![0xab, 0xcd], None),
        ("half a head", raw(0, ONE, &[])[..11].to_vec(), None),
        ("an answer", raw(0x8000, ONE, &ROOT), None),
        (
            "an answer to a question that nobody asked",
            raw(0x8180, [1, 9, 0, 0], &ROOT),
            None,
        ),
        (
            "no question",
            raw(0, [0, 0, 0, 0], &[]),
            Some(ResponseCode::FormErr),
        ),
        (
            "two questions",
            raw(0, [2, 0, 0, 0], &[ROOT, ROOT].concat()),
            Some(ResponseCode::FormErr),
        ),
        (
            "65,535 questions",
            raw(0, [u16::MAX; 4], &ROOT),
            Some(ResponseCode::FormErr),
        ),
        (
            "65,535 additional records",
            raw(0, [1, 0, 0, u16::MAX], &ROOT),
            Some(ResponseCode::FormErr),
        ),
        (
            "a question with answers",
            raw(0, [1, 1, 0, 0], &ROOT),
            Some(ResponseCode::FormErr),
        ),
        ("an update", raw(0x2800, ONE, &ROOT), Some(ResponseCode::NotImp)),
        ("a status", raw(0x1000, ONE, &ROOT), Some(ResponseCode::NotImp)),
        (
            "another class",
            raw(0, ONE, &[0, 0, 1, 0, 3]),
            Some(ResponseCode::Refused),
        ),
        (
            "a whole zone",
            raw(
                0,
                ONE,
                &[
                    1, b'a', 7, b'e', b'x', b'a', b'm', b'p', b'l', b'e', 0, 0, 252, 0, 1,
                ],
            ),
            Some(ResponseCode::Refused),
        ),
        (
            "options of a version that there is not",
            raw(0, [1, 0, 0, 1], &options(1)),
            Some(BAD_VERSION),
        ),
        (
            "two options",
            raw(0, [1, 0, 0, 2], &[options(0), options(0)[5..].to_vec()].concat()),
            Some(ResponseCode::FormErr),
        ),
        (
            "bytes behind the end",
            raw(0, ONE, &[&ROOT[..], &[7; 50]].concat()),
            Some(ResponseCode::Refused),
        ),
        (
            "more bytes than a question has",
            raw(0, ONE, &[&ROOT[..], &[7; 5_000]].concat()),
            None,
        ),
    ]
}

#[tokio::test]
async fn messages_that_are_none_are_refused_or_not_answered() {
    let cloud = cloud_with_domain().await;
    let server = server_of(&cloud).await;
    let good = question("a.example.", RecordType::NS).to_vec().unwrap();
    for (what, bytes, expected) in bad_names().into_iter().chain(bad_messages()) {
        let socket = socket_to(server);
        let first = match expected {
            Some(_) => exchange(&socket, &bytes).unwrap_or_else(|| panic!("no answer: {what}")),
            None => {
                socket.send(&bytes).unwrap();
                // The next answer is the one to the next question: to this one there was none.
                let answer = exchange(&socket, &good).unwrap_or_else(|| panic!("no answer after: {what}"));
                assert_eq!(answer.answers.len(), 3, "{what}");
                continue;
            }
        };
        assert_eq!(
            (first.metadata.id, Some(first.metadata.response_code)),
            (0xabcd, expected),
            "{what}"
        );
        let mut stream = connect(server);
        send_by_tcp(&mut stream, &bytes);
        assert_eq!(
            Some(read_by_tcp(&mut stream).unwrap().metadata.response_code),
            expected,
            "{what}, by TCP"
        );
    }
    // What has no answer ends its connection, and so does a length that no question has.
    for bytes in [&[0_u8, 2, 0xab, 0xcd][..], &[0xff, 0xff, 0, 0], &[0, 0]] {
        let mut stream = connect(server);
        stream.write_all(bytes).unwrap();
        assert_eq!(stream.read(&mut [0; 9]).unwrap_or(0), 0, "{bytes:?}");
    }
}

/// Numbers that look like chance and are the same each time.
fn noise(seed: u64) -> impl Iterator<Item = u8> {
    let mut state = seed;
    std::iter::repeat_with(move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        state.to_be_bytes()[0]
    })
}

#[tokio::test]
async fn a_flood_of_noise_and_questions_leaves_it_answering() {
    let cloud = cloud_with_domain().await;
    let server = server_of(&cloud).await;
    let socket = socket_to(server);
    let good = question("a.example.", RecordType::NS).to_vec().unwrap();
    for seed in 0..5_000 {
        let length = usize::try_from(seed % 300).unwrap();
        let mut bytes: Vec<u8> = noise(seed).take(length).collect();
        if seed % 2 == 0 && length > good.len() {
            // A good question with one wrong byte.
            bytes = good.clone();
            let at = length % good.len();
            bytes[at] = bytes[at].wrapping_add(1);
        }
        let _full = socket.send(&bytes);
        let _full = socket.send(&good);
    }
    assert_eq!(
        ask(server, &question("a.example.", RecordType::NS)).answers.len(),
        3
    );
    assert_eq!(cloud.get("/v2/domains").await.status, 200);
}

#[tokio::test]
async fn clients_that_hold_connections_are_bounded_and_let_go() {
    let cloud = cloud_with_domain().await;
    let server = server_of(&cloud).await;
    let mut held: Vec<TcpStream> = (0..8).map(|_| connect(server)).collect();
    // They are counted when a question of the last one is answered.
    let bytes = question("a.example.", RecordType::NS).to_vec().unwrap();
    for stream in &mut held {
        send_by_tcp(stream, &bytes);
        assert_eq!(read_by_tcp(stream).unwrap().answers.len(), 3);
    }
    let mut one_more = connect(server);
    let _closed_already = one_more.write_all(&[0, 1]);
    assert_eq!(one_more.read(&mut [0; 9]).unwrap_or(0), 0, "closed");
    // Others are served meanwhile, and by UDP everybody.
    assert_eq!(addresses(server, "none.a.example.").len(), 0);
    for stream in &mut held {
        // The start of a question, and no more.
        let _closed_already = stream.write_all(&[0, 40, 1]);
        assert_eq!(
            stream.read(&mut [0; 9]).unwrap_or(0),
            0,
            "a slow client is let go"
        );
    }
    cloud
        .until("there is room again", async || {
            let mut stream = connect(server);
            send_by_tcp(&mut stream, &bytes);
            read_by_tcp(&mut stream).is_ok()
        })
        .await;
}

#[tokio::test]
async fn it_listens_at_its_own_address_alone() {
    if by_systemd() {
        println!("tidepool-skip: it_listens_at_its_own_address_alone: the sockets are in the hosts' network");
        return;
    }
    let cloud = cloud_with_domain().await;
    let server = server_of(&cloud).await;
    let descriptors = format!("/proc/{}/fd", cloud.child.id());
    let mut inodes = Vec::new();
    for entry in std::fs::read_dir(descriptors).unwrap().flatten() {
        let target = std::fs::read_link(entry.path()).unwrap_or_default();
        let target = target.to_string_lossy().into_owned();
        let inode = target
            .strip_prefix("socket:[")
            .and_then(|rest| rest.strip_suffix(']'));
        inodes.extend(inode.map(str::to_owned));
    }
    let mut found = Vec::new();
    for file in ["/proc/net/udp", "/proc/net/udp6"] {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        for line in text.lines().skip(1) {
            let fields: Vec<&str> = line.split_whitespace().collect();
            if inodes.iter().any(|inode| inode == fields[9]) {
                found.push(fields[1].to_owned());
            }
        }
    }
    let SocketAddr::V4(own) = server else {
        panic!("{server}")
    };
    let ip = u32::from_ne_bytes(own.ip().octets());
    assert_eq!(found, [format!("{ip:08X}:{:04X}", own.port())]);
    assert!(own.ip().is_loopback());
}
