//! The host's own name servers, read from its `resolv.conf` when they are needed: what is changed there counts at once,
//! whether or not an engine runs.

use std::fs::Metadata;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The file is looked at again after this.
const FRESH: Duration = Duration::from_secs(1);

/// Files beyond this are none of ours.
const LARGEST: u64 = 1 << 20;

/// The servers a `resolv.conf` names (resolv.conf(5)), less those whose address has a zone, which cannot be asked
/// without its interface. Public servers stand in when there is none, as with Docker.
pub fn servers(text: &str) -> Vec<IpAddr> {
    let named = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        words.next().filter(|word| *word == "nameserver")?;
        words.next()?.parse().ok()
    });
    let found: Vec<IpAddr> = named.collect();
    match found.is_empty() {
        true => vec![Ipv4Addr::new(8, 8, 8, 8).into(), Ipv4Addr::new(8, 8, 4, 4).into()],
        false => found,
    }
}

/// What tells one state of a file from another.
type Stamp = Option<(u64, u64, i64, i64, u64)>;

fn stamp(metadata: &Metadata) -> Stamp {
    Some((metadata.dev(), metadata.ino(), metadata.mtime(), metadata.mtime_nsec(), metadata.size()))
}

#[derive(Debug)]
struct Known {
    looked: Instant,
    stamp: Stamp,
    servers: Arc<[IpAddr]>,
}

/// A `resolv.conf` and what it said.
#[derive(Debug)]
pub struct HostServers {
    path: PathBuf,
    known: Mutex<Option<Known>>,
}

impl HostServers {
    /// Reads nothing yet.
    pub fn new(path: PathBuf) -> Self {
        Self { path, known: Mutex::default() }
    }

    /// The servers now. What cannot be read says nothing new.
    pub fn get(&self, now: Instant) -> Arc<[IpAddr]> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = known.as_ref().filter(|k| now.duration_since(k.looked) < FRESH) {
            return Arc::clone(&known.servers);
        }
        // The stamp is older than the text at worst, and then the file is read once more.
        let metadata = std::fs::metadata(&self.path).ok().filter(|m| m.is_file() && m.size() <= LARGEST);
        let stamp = metadata.as_ref().and_then(stamp);
        if let Some(known) = known.as_mut().filter(|k| k.stamp == stamp || stamp.is_none()) {
            known.looked = now;
            return Arc::clone(&known.servers);
        }
        let text = stamp.and_then(|_| std::fs::read_to_string(&self.path).ok()).unwrap_or_default();
        let servers: Arc<[IpAddr]> = servers(&text).into();
        *known = Some(Known { looked: now, stamp, servers: Arc::clone(&servers) });
        servers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_read() {
        let text = "# nameserver 1.1.1.1\nnameserver\t127.0.0.53\nnameserver fe80::1%eth0\n\
                    nameservers 2.2.2.2\n nameserver 2001:db8::1 \n";
        let wanted: Vec<IpAddr> = vec!["127.0.0.53".parse().unwrap(), "2001:db8::1".parse().unwrap()];
        assert_eq!(servers(text), wanted);
        assert_eq!(servers("search a\n").len(), 2, "public ones stand in");
    }

    #[test]
    fn changes_count_within_a_second_and_gaps_do_not() {
        let path = std::env::temp_dir().join(format!("ferry-dns-host-{}", std::process::id()));
        std::fs::write(&path, "nameserver 192.0.2.1\n").unwrap();
        let host = HostServers::new(path.clone());
        let now = Instant::now();
        let first = host.get(now);
        assert_eq!(*first, ["192.0.2.1".parse::<IpAddr>().unwrap()]);
        std::fs::write(&path, "nameserver 192.0.2.22\n").unwrap();
        assert_eq!(host.get(now), first, "not yet");
        assert_eq!(*host.get(now + FRESH), ["192.0.2.22".parse::<IpAddr>().unwrap()]);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(*host.get(now + FRESH * 3), ["192.0.2.22".parse::<IpAddr>().unwrap()]);
    }
}
