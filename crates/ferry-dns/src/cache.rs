//! Responses of other servers, kept for as long as they allow (RFC 1035 section 7.4, RFC 2308).

use std::collections::HashMap;
use std::time::{Duration, Instant};

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{RData, RecordType};

use crate::answer::Question;

/// Nothing is kept longer, whatever its owner says.
const LONGEST: Duration = Duration::from_secs(3600);

/// Names that do not exist are asked about again after this at the latest.
const LONGEST_NEGATIVE: Duration = Duration::from_secs(60);

/// Responses kept at most.
const CAPACITY: usize = 4096;

/// Bytes kept at most.
const ROOM: usize = 2 << 20;

/// Larger responses are rare and not worth their memory.
const LARGEST: usize = 16 << 10;

#[derive(Debug)]
struct Entry {
    response: Box<[u8]>,
    stored: Instant,
    expires: Instant,
}

/// The cache of one set of servers.
#[derive(Debug, Default)]
pub struct Cache {
    entries: HashMap<Question, Entry>,
    bytes: usize,
}

impl Cache {
    /// The response to a question, with times to live that count from now.
    pub fn get(&mut self, question: &Question, now: Instant) -> Option<Vec<u8>> {
        let entry = self.entries.get(question)?;
        if entry.expires <= now {
            self.remove(question);
            return None;
        }
        let age = u32::try_from(now.duration_since(entry.stored).as_secs()).unwrap_or(u32::MAX);
        if age == 0 {
            return Some(entry.response.to_vec());
        }
        let mut response = Message::from_vec(&entry.response).ok()?;
        let sections = [&mut response.answers, &mut response.authorities, &mut response.additionals];
        for record in sections.into_iter().flatten() {
            record.ttl = record.ttl.saturating_sub(age);
        }
        response.to_vec().ok()
    }

    /// Remembers a response, if it may be.
    pub fn put(&mut self, question: Question, response: &[u8], now: Instant) {
        if response.len() > LARGEST {
            return;
        }
        let Ok(message) = Message::from_vec(response) else { return };
        let Some(lifetime) = lifetime(&message) else { return };
        self.remove(&question);
        if self.is_full(response.len()) {
            let expired: Vec<Question> =
                self.entries.iter().filter(|(_, e)| e.expires <= now).map(|(q, _)| q.clone()).collect();
            expired.iter().for_each(|question| self.remove(question));
        }
        while self.is_full(response.len()) {
            // All are valid: the one that would go first makes room.
            let first = self.entries.iter().min_by_key(|(_, entry)| entry.expires).map(|(q, _)| q.clone());
            let Some(first) = first else { break };
            self.remove(&first);
        }
        self.bytes += response.len();
        let entry = Entry { response: response.into(), stored: now, expires: now + lifetime };
        self.entries.insert(question, entry);
    }

    fn is_full(&self, more: usize) -> bool {
        self.entries.len() >= CAPACITY || self.bytes + more > ROOM
    }

    fn remove(&mut self, question: &Question) {
        if let Some(entry) = self.entries.remove(question) {
            self.bytes = self.bytes.saturating_sub(entry.response.len());
        }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.entries.clear();
        self.bytes = 0;
    }
}

/// How long a response may be kept; `None` when not at all.
fn lifetime(message: &Message) -> Option<Duration> {
    if message.metadata.truncation {
        return None;
    }
    let seconds = |ttl: u32| Duration::from_secs(u64::from(ttl));
    let positive = message.metadata.response_code == ResponseCode::NoError && !message.answers.is_empty();
    let lifetime = if positive {
        let shortest = message.answers.iter().map(|record| record.ttl).min()?;
        seconds(shortest).min(LONGEST)
    } else if matches!(message.metadata.response_code, ResponseCode::NoError | ResponseCode::NXDomain) {
        // Without a start-of-authority record nobody says how long the absence lasts.
        let soa = message.authorities.iter().find(|record| record.record_type() == RecordType::SOA)?;
        let RData::SOA(data) = &soa.data else { return None };
        seconds(soa.ttl.min(data.minimum)).min(LONGEST_NEGATIVE)
    } else {
        return None;
    };
    (!lifetime.is_zero()).then_some(lifetime)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use hickory_proto::op::{OpCode, Query};
    use hickory_proto::rr::rdata::{A, SOA};
    use hickory_proto::rr::{Name, Record};

    use super::*;

    fn question(name: &str) -> Question {
        Question { name: name.into(), kind: 1, class: 1, dnssec: false, checking_disabled: false }
    }

    fn response(ttl: u32) -> Message {
        let name = Name::from_ascii("example.org.").unwrap();
        let mut message = Message::response(1, OpCode::Query);
        message.add_query(Query::query(name.clone(), RecordType::A));
        message.add_answer(Record::from_rdata(name, ttl, RData::A(A(Ipv4Addr::new(192, 0, 2, 7)))));
        message
    }

    #[test]
    fn times_to_live_run_down() {
        let (mut cache, start) = (Cache::default(), Instant::now());
        cache.put(question("example.org."), &response(100).to_vec().unwrap(), start);
        let later = start + Duration::from_secs(40);
        let found = Message::from_vec(&cache.get(&question("example.org."), later).unwrap()).unwrap();
        assert_eq!(found.answers[0].ttl, 60);
        assert_eq!(cache.get(&question("example.com."), later), None);
        assert_eq!(cache.get(&question("example.org."), start + Duration::from_secs(100)), None);
    }

    #[test]
    fn what_does_not_exist_is_remembered_for_a_while() {
        let (mut cache, start) = (Cache::default(), Instant::now());
        let name = Name::from_ascii("org.").unwrap();
        let mut message = response(100);
        message.answers.clear();
        message.metadata.response_code = ResponseCode::NXDomain;
        cache.put(question("a."), &message.to_vec().unwrap(), start);
        assert_eq!(cache.get(&question("a."), start), None, "nobody said for how long");
        let soa = SOA::new(name.clone(), name.clone(), 1, 2, 3, 4, 30);
        message.add_authority(Record::from_rdata(name, 900, RData::SOA(soa)));
        cache.put(question("a."), &message.to_vec().unwrap(), start);
        assert!(cache.get(&question("a."), start + Duration::from_secs(29)).is_some());
        assert!(cache.get(&question("a."), start + Duration::from_secs(31)).is_none());
    }

    #[test]
    fn failures_and_torn_responses_are_not_kept() {
        let (mut cache, start) = (Cache::default(), Instant::now());
        let mut failed = response(100);
        failed.metadata.response_code = ResponseCode::ServFail;
        let mut torn = response(100);
        torn.metadata.truncation = true;
        for message in [failed, torn, response(0)] {
            cache.put(question("a."), &message.to_vec().unwrap(), start);
            assert_eq!(cache.get(&question("a."), start), None);
        }
    }

    #[test]
    fn it_does_not_grow_without_limit() {
        let (mut cache, start) = (Cache::default(), Instant::now());
        let bytes = response(100).to_vec().unwrap();
        for n in 0..CAPACITY + 10 {
            cache.put(question(&format!("n{n}.")), &bytes, start + Duration::from_millis(n as u64));
        }
        assert_eq!(cache.entries.len(), CAPACITY);
        assert!(cache.get(&question("n0."), start + Duration::from_secs(5)).is_none(), "the oldest went");
        let name = Name::from_ascii("example.org.").unwrap();
        let mut large = response(100);
        for n in 0..800_u16 {
            let address = Ipv4Addr::new(192, 0, (n >> 8) as u8, n as u8);
            large.add_answer(Record::from_rdata(name.clone(), 100, RData::A(A(address))));
        }
        let bytes = large.to_vec().unwrap();
        for n in 0..300 {
            cache.put(question(&format!("l{n}.")), &bytes, start + Duration::from_secs(50));
        }
        assert!(cache.bytes <= ROOM && cache.entries.len() > 100, "{} {}", cache.bytes, cache.entries.len());
        assert_eq!(cache.bytes, cache.entries.values().map(|e| e.response.len()).sum::<usize>());
    }
}
