//! From the bytes of a question to the bytes of its answer. Whatever comes in, little is done for it.

use hickory_proto::op::{Edns, Header, Message, MessageType, Metadata, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, RecordType};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder};

use super::Zones;
use super::lookup::look_up;

/// Largest answer by UDP to who doesn't say that more is welcome (RFC 1035, section 4.2.1).
const UDP_BYTES_PLAIN: u16 = 512;
/// Largest answer by UDP at all: it passes every link unfragmented (DNS Flag Day 2020).
const UDP_BYTES_MAX: u16 = 1_232;
/// Additional records of a question at most: its options, and a signature, which is not looked at.
const ADDITIONALS_MAX: u16 = 2;
/// The options' version that there is (RFC 6891).
const EDNS_VERSION: u8 = 0;

/// How a question came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transport {
    Udp,
    Tcp,
}

/// The answer to a message; None when it deserves none: it is an answer itself, or too short for an id.
pub(super) fn answer(zones: &Zones, message: &[u8], transport: Transport) -> Option<Vec<u8>> {
    let header = Header::read(&mut BinDecoder::new(message)).ok()?;
    if header.metadata.message_type != MessageType::Query {
        return None;
    }
    let reply = reply(zones, message, &header);
    let bytes = reply.to_vec().ok()?;
    let limit = match transport {
        Transport::Tcp => u16::MAX,
        Transport::Udp => reply
            .edns
            .as_ref()
            .map_or(UDP_BYTES_PLAIN, |edns| edns.max_payload()),
    };
    if bytes.len() <= usize::from(limit) {
        return Some(bytes);
    }
    reply.truncate().to_vec().ok()
}

/// The answer, whose options say how much of it the asker takes.
fn reply(zones: &Zones, message: &[u8], header: &Header) -> Message {
    let (asked, counts) = (&header.metadata, header.counts);
    if asked.op_code != OpCode::Query {
        return failed(asked, ResponseCode::NotImp);
    }
    // Before anything is read by these numbers, or room is made for it.
    if (counts.queries, counts.answers, counts.authorities) != (1, 0, 0)
        || counts.additionals > ADDITIONALS_MAX
    {
        return failed(asked, ResponseCode::FormErr);
    }
    let Ok(Message { queries, edns, .. }) = Message::from_vec(message) else {
        return failed(asked, ResponseCode::FormErr);
    };
    let Some(query) = queries.into_iter().next() else {
        return failed(asked, ResponseCode::FormErr);
    };
    let mut reply = found(zones, asked, &query, edns.as_ref());
    reply.queries = vec![query];
    if let Some(edns) = edns {
        let mut own = Edns::new();
        own.set_version(EDNS_VERSION);
        own.set_max_payload(edns.max_payload().clamp(UDP_BYTES_PLAIN, UDP_BYTES_MAX));
        reply.edns = Some(own);
    }
    reply
}

fn found(zones: &Zones, asked: &Metadata, query: &Query, edns: Option<&Edns>) -> Message {
    if edns.is_some_and(|edns| edns.version() != EDNS_VERSION) {
        return failed(asked, ResponseCode::BADVERS);
    }
    let whole_zone = matches!(query.query_type(), RecordType::AXFR | RecordType::IXFR);
    if query.query_class() != DNSClass::IN || whole_zone {
        return failed(asked, ResponseCode::Refused);
    }
    let lookup = look_up(&zones.current(), query.name(), query.query_type());
    let mut reply = failed(asked, lookup.code);
    reply.metadata.authoritative = lookup.authoritative;
    reply.answers = lookup.answers;
    reply.authorities = lookup.authorities;
    reply
}

/// An answer with nothing in it but how it went.
fn failed(asked: &Metadata, code: ResponseCode) -> Message {
    let mut reply = Message::response(asked.id, asked.op_code);
    reply.metadata = Metadata::response_from_request(asked);
    reply.metadata.response_code = code;
    reply
}
