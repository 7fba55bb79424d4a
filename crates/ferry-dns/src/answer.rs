//! What a query of a container gets: an answer from the table, an error, or the advice to ask elsewhere.

use std::net::IpAddr;

use hickory_proto::op::{Edns, Message, MessageType, Metadata, OpCode, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, PTR};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};

use crate::table::{Table, View};

/// Seconds other programs may remember a container's address; Docker's value.
const TTL: u32 = 600;

/// Bytes of a UDP response without EDNS (RFC 1035 section 2.3.4).
const PLAIN_UDP: u16 = 512;

/// Bytes of a UDP response we are willing to send with EDNS (DNS flag day 2020).
pub(crate) const LARGEST_UDP: u16 = 1232;

/// How a query is dealt with.
#[derive(Debug, PartialEq)]
pub enum Outcome {
    /// This message is the response.
    Respond(Vec<u8>),
    /// The other servers know.
    Forward(Question),
    /// Not a query at all: no response, lest two servers answer each other for ever.
    Ignore,
}

/// What is asked of other servers; also what a response is remembered by.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Question {
    /// In lower case, with the final dot.
    pub name: String,
    pub kind: u16,
    pub class: u16,
    /// DNSSEC records are wanted (EDNS flag DO).
    pub dnssec: bool,
    /// The client checks signatures itself (header flag CD).
    pub checking_disabled: bool,
}

/// Whether a message came by datagram, and how much of a response fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    Udp,
    Tcp,
}

/// The most bytes a response to this query may have.
pub fn limit(query: &[u8], transport: Transport) -> usize {
    let edns = || Message::from_vec(query).ok().and_then(|m| m.edns.map(|e| e.max_payload()));
    match transport {
        Transport::Tcp => usize::from(u16::MAX),
        Transport::Udp => usize::from(edns().unwrap_or(PLAIN_UDP).clamp(PLAIN_UDP, LARGEST_UDP)),
    }
}

/// Decides on a query. `shuffle` is any number; it turns lists of addresses, so that each client gets another first.
pub fn answer(table: &Table, view: &View, query: &[u8], transport: Transport, shuffle: usize) -> Outcome {
    let message = match Message::from_vec(query) {
        Ok(message) => message,
        Err(_) => return malformed(query),
    };
    if message.metadata.message_type != MessageType::Query {
        return Outcome::Ignore;
    }
    if message.metadata.op_code != OpCode::Query {
        return refuse(&message, ResponseCode::NotImp);
    }
    // More than one question has no meaning (RFC 9619).
    let [question] = message.queries.as_slice() else { return refuse(&message, ResponseCode::FormErr) };
    if message.edns.as_ref().is_some_and(|edns| edns.version() != 0) {
        return refuse(&message, ResponseCode::BADVERS);
    }
    let name = question.name.to_ascii();
    if matches!(question.query_class, DNSClass::IN | DNSClass::ANY) {
        let kind = question.query_type;
        if kind == RecordType::PTR {
            let address =
                question.name.parse_arpa_name().ok().filter(|net| net.prefix_len() == net.max_prefix_len());
            let known = address.and_then(|net| table.name(view, net.addr()));
            if let Some(target) = known.and_then(|name| Name::from_ascii(format!("{name}.")).ok()) {
                return respond(&message, vec![RData::PTR(PTR(target))], transport);
            }
        } else if let Some(addresses) = table.addresses(view, &name) {
            // The name is ours, so other types of records are known not to exist.
            let mut addresses: Vec<IpAddr> = addresses.to_vec();
            let turn = shuffle.checked_rem(addresses.len()).unwrap_or(0);
            addresses.rotate_left(turn);
            let wanted = |address: &IpAddr| match kind {
                RecordType::A => address.is_ipv4(),
                RecordType::AAAA => address.is_ipv6(),
                RecordType::ANY => true,
                _ => false,
            };
            let data = addresses.into_iter().filter(wanted).map(|address| match address {
                IpAddr::V4(v4) => RData::A(A(v4)),
                IpAddr::V6(v6) => RData::AAAA(AAAA(v6)),
            });
            return respond(&message, data.collect(), transport);
        }
    }
    let single_label = question.name.num_labels() == 1;
    if view.ndots && single_label && matches!(question.query_type, RecordType::A | RecordType::AAAA) {
        return refuse(&message, ResponseCode::NXDomain);
    }
    if view.servers.is_empty() && !view.host_servers {
        return refuse(&message, ResponseCode::ServFail);
    }
    Outcome::Forward(Question {
        name: name.to_ascii_lowercase(),
        kind: question.query_type.into(),
        class: question.query_class.into(),
        dnssec: message.edns.as_ref().is_some_and(|edns| edns.flags().dnssec_ok),
        checking_disabled: message.metadata.checking_disabled,
    })
}

/// The response to a query that could not be served elsewhere either.
pub fn failure(query: &[u8]) -> Option<Vec<u8>> {
    let message = Message::from_vec(query).ok()?;
    match refuse(&message, ResponseCode::ServFail) {
        Outcome::Respond(bytes) => Some(bytes),
        Outcome::Forward(_) | Outcome::Ignore => None,
    }
}

/// A response of another server made to fit: its id is the query's; what is too long is cut to nothing and marked
/// as truncated, upon which clients ask again over TCP.
pub fn adapt(response: &[u8], id: [u8; 2], limit: usize) -> Option<Vec<u8>> {
    let mut bytes = response.to_vec();
    bytes.get_mut(..2)?.copy_from_slice(&id);
    if bytes.len() <= limit {
        return Some(bytes);
    }
    let cut = Message::from_vec(&bytes).ok()?.truncate().to_vec().ok()?;
    Some(fitting(cut, limit))
}

/// A truncated message that may still be too long, for its questions: those go, too.
fn fitting(mut message: Vec<u8>, room: usize) -> Vec<u8> {
    const HEADER: usize = 12;
    if message.len() > room && message.len() >= HEADER {
        message.truncate(HEADER);
        // The counts of the four sections.
        message[4..].fill(0);
    }
    message
}

fn reply_to(message: &Message) -> Message {
    let mut reply = Message::response(message.metadata.id, message.metadata.op_code);
    reply.metadata = Metadata::response_from_request(&message.metadata);
    reply.metadata.recursion_available = true;
    reply.add_queries(message.queries.iter().cloned());
    if message.edns.is_some() {
        let mut edns = Edns::new();
        edns.set_max_payload(LARGEST_UDP);
        reply.set_edns(edns);
    }
    reply
}

fn respond(message: &Message, data: Vec<RData>, transport: Transport) -> Outcome {
    let mut reply = reply_to(message);
    let Some(question) = message.queries.first() else { return Outcome::Ignore };
    for data in data {
        reply.add_answer(Record::from_rdata(question.name.clone(), TTL, data));
    }
    let room = match transport {
        Transport::Tcp => u16::MAX,
        Transport::Udp => {
            let offered = message.edns.as_ref().map_or(PLAIN_UDP, Edns::max_payload);
            offered.clamp(PLAIN_UDP, LARGEST_UDP)
        }
    };
    encode(reply, usize::from(room))
}

fn refuse(message: &Message, code: ResponseCode) -> Outcome {
    let mut reply = reply_to(message);
    reply.metadata.response_code = code;
    encode(reply, usize::from(PLAIN_UDP))
}

fn encode(reply: Message, room: usize) -> Outcome {
    match reply.to_vec() {
        Ok(bytes) if bytes.len() <= room => Outcome::Respond(bytes),
        Ok(_) => reply.truncate().to_vec().map_or(Outcome::Ignore, |m| Outcome::Respond(fitting(m, room))),
        Err(_) => Outcome::Ignore,
    }
}

/// A message whose header can be read but not the rest gets FORMERR; what is not even a query gets nothing.
fn malformed(query: &[u8]) -> Outcome {
    let Some(&[id_high, id_low, flags, ..]) = query.get(..12) else { return Outcome::Ignore };
    if flags & 0x80 != 0 {
        return Outcome::Ignore;
    }
    let id = u16::from_be_bytes([id_high, id_low]);
    let reply = Message::error_msg(id, OpCode::Query, ResponseCode::FormErr);
    reply.to_vec().map_or(Outcome::Ignore, Outcome::Respond)
}

#[cfg(test)]
mod tests {
    use hickory_proto::op::Query;
    use proptest::prelude::*;

    use super::*;
    use crate::table::{Host, Network};

    fn table() -> (Table, View) {
        let mut table = Table::default();
        let host = |name: &str, addresses: &[&str]| Host {
            name: name.into(),
            names: vec![name.into(), "all".into()],
            addresses: addresses.iter().map(|a| a.parse().unwrap()).collect(),
        };
        let hosts = vec![host("web", &["10.1.0.2", "fd00::2"]), host("db", &["10.1.0.3"])];
        table.set("n", &Network { name: "net".into(), hosts });
        let servers = vec!["192.0.2.1".parse().unwrap()];
        (table, View { networks: vec!["n".into()], servers, ..View::default() })
    }

    fn query(name: &str, kind: RecordType) -> Vec<u8> {
        let mut message = Message::new(77, MessageType::Query, OpCode::Query);
        message.metadata.recursion_desired = true;
        message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
        message.to_vec().unwrap()
    }

    fn ask(view: &View, name: &str, kind: RecordType) -> Message {
        let (table, _) = table();
        match answer(&table, view, &query(name, kind), Transport::Udp, 0) {
            Outcome::Respond(bytes) => Message::from_vec(&bytes).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    fn data(message: &Message) -> Vec<String> {
        message.answers.iter().map(|r| r.data.to_string()).collect()
    }

    #[test]
    fn answers_from_the_table() {
        let (_, view) = table();
        let reply = ask(&view, "WEB.", RecordType::A);
        assert_eq!(data(&reply), ["10.1.0.2"]);
        assert_eq!((reply.metadata.id, reply.answers[0].ttl), (77, 600));
        assert!(reply.metadata.recursion_available && reply.metadata.recursion_desired);
        assert_eq!(reply.queries[0].name.to_ascii(), "WEB.", "the question comes back as it was");
        assert_eq!(data(&ask(&view, "web.", RecordType::AAAA)), ["fd00::2"]);
        let none = ask(&view, "db.", RecordType::AAAA);
        assert_eq!((none.metadata.response_code, none.answers.len()), (ResponseCode::NoError, 0));
        assert_eq!(data(&ask(&view, "web.", RecordType::MX)), [""; 0]);
        assert_eq!(data(&ask(&view, "2.0.1.10.in-addr.arpa.", RecordType::PTR)), ["web.net."]);
    }

    #[test]
    fn addresses_of_a_shared_name_take_turns() {
        let (table, view) = table();
        let first =
            |shuffle| match answer(&table, &view, &query("all.", RecordType::A), Transport::Udp, shuffle) {
                Outcome::Respond(bytes) => data(&Message::from_vec(&bytes).unwrap()),
                other => panic!("{other:?}"),
            };
        assert_eq!(first(0), ["10.1.0.2", "10.1.0.3"]);
        assert_eq!(first(2), ["10.1.0.3", "10.1.0.2"]);
    }

    #[test]
    fn other_names_are_asked_elsewhere_or_refused() {
        let (table, mut view) = table();
        let decide =
            |view: &View, name: &str| answer(&table, view, &query(name, RecordType::A), Transport::Udp, 0);
        let Outcome::Forward(question) = decide(&view, "Example.org.") else { panic!() };
        assert_eq!((question.name.as_str(), question.kind, question.class), ("example.org.", 1, 1));
        assert!(matches!(decide(&view, "single."), Outcome::Forward(_)));
        view.ndots = true;
        assert_eq!(ask(&view, "single.", RecordType::A).metadata.response_code, ResponseCode::NXDomain);
        view.servers.clear();
        assert_eq!(ask(&view, "example.org.", RecordType::A).metadata.response_code, ResponseCode::ServFail);
    }

    #[test]
    fn too_many_addresses_are_truncated_over_udp_only() {
        let mut table = Table::default();
        let hosts = (0..100).map(|n| Host {
            name: format!("h{n}"),
            names: vec!["all".into()],
            addresses: vec![IpAddr::from([10, 0, 1, n])],
        });
        table.set("n", &Network { name: "net".into(), hosts: hosts.collect() });
        let view = View { networks: vec!["n".into()], ..View::default() };
        let get = |transport| match answer(&table, &view, &query("all.", RecordType::A), transport, 0) {
            Outcome::Respond(bytes) => Message::from_vec(&bytes).unwrap(),
            other => panic!("{other:?}"),
        };
        let udp = get(Transport::Udp);
        assert!(udp.metadata.truncation && udp.answers.is_empty());
        assert_eq!(get(Transport::Tcp).answers.len(), 100);
    }

    #[test]
    fn foreign_responses_are_made_to_fit() {
        let (_, view) = table();
        let bytes = ask(&view, "web.", RecordType::A).to_vec().unwrap();
        assert_eq!(&adapt(&bytes, [1, 2], 512).unwrap()[..2], [1, 2]);
        let cut = Message::from_vec(&adapt(&bytes, [1, 2], 30).unwrap()).unwrap();
        assert!(cut.metadata.truncation);
        assert_eq!(adapt(&[1], [1, 2], 30), None);
    }

    #[test]
    fn compression_loops_and_responses_are_harmless() {
        let (table, view) = table();
        // A name that points to itself.
        let mut looped = query("a.", RecordType::A);
        looped.truncate(12);
        looped.extend([0xc0, 12, 0, 1, 0, 1]);
        let Outcome::Respond(bytes) = answer(&table, &view, &looped, Transport::Udp, 0) else { panic!() };
        assert_eq!(Message::from_vec(&bytes).unwrap().metadata.response_code, ResponseCode::FormErr);
        let mut response = query("web.", RecordType::A);
        response[2] |= 0x80;
        assert_eq!(answer(&table, &view, &response, Transport::Udp, 0), Outcome::Ignore);
    }

    proptest! {
        #[test]
        fn no_message_harms(bytes in proptest::collection::vec(any::<u8>(), 0..200), cut in 0usize..40) {
            let (table, view) = table();
            answer(&table, &view, &bytes, Transport::Udp, 3);
            let mut query = query("web.net.", RecordType::A);
            let at = cut % query.len();
            query[at] ^= bytes.first().copied().unwrap_or(0xff);
            query.truncate(query.len() - bytes.len() % 3);
            answer(&table, &view, &query, Transport::Tcp, 5);
        }
    }
}
