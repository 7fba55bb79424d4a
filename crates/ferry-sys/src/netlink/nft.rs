//! nf_tables transactions (`linux/netfilter/nfnetlink.h`, `linux/netfilter/nf_tables.h`), tables of one family each.
//!
//! Everything between `NFNL_MSG_BATCH_BEGIN` and `NFNL_MSG_BATCH_END` takes effect at once or not at all.

use super::message::{APPEND, Attributes, Batch, CREATE, DUMP, Message, text};
use super::nft_expr::{Expr, Verdict, chain_of, data, encode_verdict};
use super::socket::{NetlinkError, Socket};

/// `NFNLGRP_NFTABLES`: notifications of every change.
pub const GROUP: u32 = 7;

const SUBSYSTEM: u16 = 10;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const NEWTABLE: u16 = SUBSYSTEM << 8;
const GETTABLE: u16 = SUBSYSTEM << 8 | 1;
const DELTABLE: u16 = SUBSYSTEM << 8 | 2;
const NEWCHAIN: u16 = SUBSYSTEM << 8 | 3;
const GETCHAIN: u16 = SUBSYSTEM << 8 | 4;
const DELCHAIN: u16 = SUBSYSTEM << 8 | 5;
const NEWRULE: u16 = SUBSYSTEM << 8 | 6;
const GETRULE: u16 = SUBSYSTEM << 8 | 7;
const DELRULE: u16 = SUBSYSTEM << 8 | 8;
const NEWSET: u16 = SUBSYSTEM << 8 | 9;
const DELSET: u16 = SUBSYSTEM << 8 | 11;
const NEWSETELEM: u16 = SUBSYSTEM << 8 | 12;
const GETSETELEM: u16 = SUBSYSTEM << 8 | 13;
const DELSETELEM: u16 = SUBSYSTEM << 8 | 14;

const NFPROTO_UNSPEC: u8 = 0;
const NFPROTO_INET: u8 = 1;
const NFPROTO_IPV4: u8 = 2;
const NFPROTO_IPV6: u8 = 10;
const NFT_SET_MAP: u32 = 0x8;
/// `NFT_DATA_VERDICT`.
const DATA_VERDICT: u32 = 0xffff_ff00;
const NFTA_SET_USERDATA: u16 = 13;
const NFTA_RULE_USERDATA: u16 = 7;
/// For nft(8)'s listings: `NFTNL_UDATA_SET_KEYBYTEORDER`, 4 bytes, `BYTEORDER_HOST_ENDIAN`.
const HOST_ORDER: [u8; 6] =
    if cfg!(target_endian = "little") { [0, 4, 1, 0, 0, 0] } else { [0, 4, 0, 0, 0, 1] };
/// Type of our entry in a rule's user data, which nft(8) leaves alone: 0 and 1 are libnftnl's.
const FINGERPRINT: u8 = 0x66;
const NFTA_LIST_ELEM: u16 = 1;
const NFTA_SET_ELEM_KEY: u16 = 1;
const NFTA_SET_ELEM_DATA: u16 = 2;
/// Elements per message: an attribute holds at most 65535 bytes, an element of ours takes under 64.
const ELEMENTS_PER_MESSAGE: usize = 900;

/// `struct nfgenmsg` after the netlink header.
pub(super) const GENMSG: usize = 4;

/// Where in the stack a base chain is called (`enum nf_inet_hooks`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// `NF_INET_PRE_ROUTING`.
    Prerouting,
    /// `NF_INET_FORWARD`.
    Forward,
    /// `NF_INET_LOCAL_OUT`.
    Output,
    /// `NF_INET_POST_ROUTING`.
    Postrouting,
}

/// How a base chain is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BaseChain {
    /// `filter` or `nat`.
    pub kind: &'static str,
    /// Where.
    pub hook: Hook,
    /// Order among the chains of the hook (`NF_IP_PRI_*`).
    pub priority: i32,
}

/// Family of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    Ip,
    /// IPv6.
    Ip6,
    /// IPv4 and IPv6.
    Inet,
}

impl Family {
    fn header(self) -> [u8; 4] {
        let family = match self {
            Self::Ip => NFPROTO_IPV4,
            Self::Ip6 => NFPROTO_IPV6,
            Self::Inet => NFPROTO_INET,
        };
        [family, 0, 0, 0]
    }
}

/// One part of a concatenated key or value, always padded to four bytes in the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// 4 bytes, network byte order.
    Ipv4,
    /// 16 bytes.
    Ipv6,
    /// Name of an interface, 16 bytes, padded with NULs.
    Interface,
    /// 1 byte.
    Transport,
    /// 2 bytes, network byte order.
    Port,
}

impl Part {
    /// nft(8)'s number of the data type; the kernel stores it for nft's listings only.
    fn type_number(self) -> u32 {
        match self {
            Self::Ipv4 => 7,
            Self::Ipv6 => 8,
            Self::Transport => 12,
            Self::Port => 13,
            Self::Interface => 41,
        }
    }

    /// Size, padded.
    fn len(self) -> u32 {
        match self {
            Self::Ipv6 | Self::Interface => 16,
            Self::Ipv4 | Self::Transport | Self::Port => 4,
        }
    }
}

/// nft(8)'s type of a concatenation.
fn type_number(parts: &[Part]) -> u32 {
    parts.iter().fold(0, |n, p| n << 6 | p.type_number())
}

fn length(parts: &[Part]) -> u32 {
    parts.iter().map(|p| p.len()).sum()
}

/// A key and a value of a map, each part padded to four bytes. In a set the value is empty.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Element {
    /// Key.
    pub key: Vec<u8>,
    /// Value; ignored when the element is deleted.
    pub value: Vec<u8>,
}

/// Changes to be made at once.
#[derive(Debug)]
pub struct Transaction {
    family: Family,
    batch: Batch,
    set_ids: u32,
}

impl Transaction {
    /// Nothing yet, for tables of this family.
    pub fn new(family: Family) -> Self {
        let mut batch = Batch::new();
        batch.message(BATCH_BEGIN, 0).header(&[NFPROTO_UNSPEC, 0, 0, SUBSYSTEM as u8]);
        Self { family, batch, set_ids: 0 }
    }

    /// Whether committing would change nothing.
    pub fn is_empty(&self) -> bool {
        self.batch.len() == 1
    }

    fn message(&mut self, kind: u16, flags: u16) -> Message<'_> {
        let header = self.family.header();
        let mut m = self.batch.message(kind, flags);
        m.header(&header);
        m
    }

    /// Creates a table unless it is there.
    pub fn add_table(&mut self, table: &str) {
        self.message(NEWTABLE, CREATE).text(1, table);
    }

    /// Creates a table that only the socket of this transaction can change from then on, also by flushing everything, or
    /// takes one over whose owner is gone. With `persist` it outlives the socket, which Linux has since 6.9.
    pub fn add_own_table(&mut self, table: &str, persist: bool) {
        // NFT_TABLE_F_OWNER (Linux 5.12), NFT_TABLE_F_PERSIST
        let flags = if persist { 2 | 4 } else { 2 };
        self.message(NEWTABLE, CREATE).text(1, table).be32(2, flags);
    }

    /// Deletes a table of any family with all it holds; refused with `ENOENT` when it is not there.
    pub fn delete_table(&mut self, family: Family, table: &str) {
        self.batch.message(DELTABLE, 0).header(&family.header()).text(1, table);
    }

    /// Creates a chain unless it is there.
    pub fn add_chain(&mut self, table: &str, chain: &str, base: Option<BaseChain>) {
        let mut m = self.message(NEWCHAIN, CREATE);
        m.text(1, table).text(3, chain);
        if let Some(base) = base {
            let hook = match base.hook {
                Hook::Prerouting => 0,
                Hook::Forward => 2,
                Hook::Output => 3,
                Hook::Postrouting => 4,
            };
            // NFTA_CHAIN_HOOK, NFTA_CHAIN_POLICY (NF_ACCEPT), NFTA_CHAIN_TYPE
            m.nest(4, |m| {
                m.be32(1, hook).be32(2, base.priority as u32);
            })
            .be32(5, 1)
            .text(7, base.kind);
        }
    }

    /// Deletes a chain; refused with `EBUSY` while something leads to it.
    pub fn delete_chain(&mut self, table: &str, chain: &str) {
        self.message(DELCHAIN, 0).text(1, table).text(3, chain);
    }

    fn set(&mut self, table: &str, set: &str, key: &[Part], flags: u32) -> Message<'_> {
        self.set_ids += 1;
        let id = self.set_ids;
        let mut m = self.message(NEWSET, CREATE);
        m.text(1, table)
            .text(2, set)
            .be32(3, flags)
            .be32(4, type_number(key))
            .be32(5, length(key))
            .be32(10, id);
        if key.contains(&Part::Interface) {
            m.attr(NFTA_SET_USERDATA, &HOST_ORDER);
        }
        m
    }

    /// Creates a set unless it is there.
    pub fn add_set(&mut self, table: &str, set: &str, key: &[Part]) {
        self.set(table, set, key, 0);
    }

    /// Creates a map unless it is there.
    pub fn add_map(&mut self, table: &str, map: &str, key: &[Part], value: &[Part]) {
        self.set(table, map, key, NFT_SET_MAP).be32(6, type_number(value)).be32(7, length(value));
    }

    /// Creates a map to verdicts unless it is there.
    pub fn add_verdict_map(&mut self, table: &str, map: &str, key: &[Part]) {
        self.set(table, map, key, NFT_SET_MAP).be32(6, DATA_VERDICT);
    }

    /// Deletes every rule of a chain.
    pub fn delete_rules(&mut self, table: &str, chain: &str) {
        self.message(DELRULE, 0).text(1, table).text(2, chain);
    }

    /// Appends a rule to a chain.
    pub fn add_rule(&mut self, table: &str, chain: &str, rule: &[Expr]) {
        let mark = fingerprint(rule).to_be_bytes();
        let mut m = self.message(NEWRULE, CREATE | APPEND);
        m.text(1, table).text(2, chain).nest(4, |m| rule.iter().for_each(|e| e.encode(m)));
        m.attr(NFTA_RULE_USERDATA, &[&[FINGERPRINT, mark.len() as u8], &mark[..]].concat());
    }

    /// Has a map of verdicts lead from each key to a chain.
    pub fn add_jumps(&mut self, table: &str, map: &str, jumps: &[(Vec<u8>, String)]) {
        for some in jumps.chunks(ELEMENTS_PER_MESSAGE) {
            let mut m = self.message(NEWSETELEM, CREATE);
            m.text(1, table).text(2, map).nest(3, |m| {
                for (key, chain) in some {
                    m.nest(NFTA_LIST_ELEM, |m| {
                        m.nest(NFTA_SET_ELEM_KEY, |m| data(m, key));
                        let verdict = Verdict::Jump(chain.clone());
                        m.nest(NFTA_SET_ELEM_DATA, |m| encode_verdict(m, &verdict));
                    });
                }
            });
        }
    }

    /// Adds elements; the transaction is refused with `EBUSY` or `EEXIST` when a key is there with another value.
    pub fn add_elements(&mut self, table: &str, map: &str, elements: &[Element]) {
        self.elements(NEWSETELEM, CREATE, table, map, elements);
    }

    /// Deletes elements; the transaction is refused with `ENOENT` when one is not there.
    pub fn delete_elements(&mut self, table: &str, map: &str, elements: &[Element]) {
        self.elements(DELSETELEM, 0, table, map, elements);
    }

    fn elements(&mut self, kind: u16, flags: u16, table: &str, map: &str, elements: &[Element]) {
        for some in elements.chunks(ELEMENTS_PER_MESSAGE) {
            let mut m = self.message(kind, flags);
            m.text(1, table).text(2, map).nest(3, |m| {
                for element in some {
                    m.nest(NFTA_LIST_ELEM, |m| {
                        m.nest(NFTA_SET_ELEM_KEY, |m| data(m, &element.key));
                        if kind == NEWSETELEM && !element.value.is_empty() {
                            m.nest(NFTA_SET_ELEM_DATA, |m| data(m, &element.value));
                        }
                    });
                }
            });
        }
    }

    /// Makes the changes.
    ///
    /// # Errors
    /// The first refusal; then nothing has changed.
    pub fn commit(mut self, socket: &mut Socket) -> Result<(), NetlinkError> {
        if self.is_empty() {
            return Ok(());
        }
        self.batch.flag_last(super::message::ACK);
        self.batch.message(BATCH_END, 0).header(&[NFPROTO_UNSPEC, 0, 0, SUBSYSTEM as u8]);
        socket.execute_framed(self.batch)
    }
}

/// What tells a rule's contents: the same for rules of the same expressions.
pub fn fingerprint(rule: &[Expr]) -> u64 {
    let mut scratch = Batch::new();
    {
        let mut m = scratch.message(0, 0);
        rule.iter().for_each(|e| e.encode(&mut m));
    }
    // FNV-1a
    scratch.buf.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// Whether a table exists.
///
/// # Errors
/// See [`Socket::query`].
pub fn table_exists(socket: &mut Socket, family: Family, table: &str) -> Result<bool, NetlinkError> {
    let mut batch = Batch::new();
    batch.message(GETTABLE, 0).header(&family.header()).text(1, table);
    match socket.query(batch, |_, _| {}) {
        Ok(()) => Ok(true),
        Err(e) if e.errno() == Some(libc::ENOENT) => Ok(false),
        Err(e) => Err(e),
    }
}

/// Whether a table has a chain.
///
/// # Errors
/// See [`Socket::query`].
pub fn chain_exists(
    socket: &mut Socket,
    family: Family,
    table: &str,
    chain: &str,
) -> Result<bool, NetlinkError> {
    let mut batch = Batch::new();
    batch.message(GETCHAIN, 0).header(&family.header()).text(1, table).text(3, chain);
    match socket.query(batch, |_, _| {}) {
        Ok(()) => Ok(true),
        Err(e) if e.errno() == Some(libc::ENOENT) => Ok(false),
        Err(e) => Err(e),
    }
}

/// All elements of a map or set; none when it or its table does not exist.
///
/// # Errors
/// See [`Socket::query`].
pub fn elements(
    socket: &mut Socket,
    family: Family,
    table: &str,
    map: &str,
) -> Result<Vec<Element>, NetlinkError> {
    set_elements(socket, family, table, map, |e| {
        let value = e.nested(NFTA_SET_ELEM_DATA).find(1).unwrap_or_default();
        Some(Element { key: e.nested(NFTA_SET_ELEM_KEY).find(1)?.to_vec(), value: value.to_vec() })
    })
}

/// Which chain a map of verdicts leads to, by key.
///
/// # Errors
/// See [`Socket::query`].
pub fn jumps(socket: &mut Socket, table: &str, map: &str) -> Result<Vec<(Vec<u8>, String)>, NetlinkError> {
    set_elements(socket, Family::Inet, table, map, |e| {
        let chain = chain_of(&e.nested(NFTA_SET_ELEM_DATA))?;
        Some((e.nested(NFTA_SET_ELEM_KEY).find(1)?.to_vec(), chain))
    })
}

fn set_elements<T>(
    socket: &mut Socket,
    family: Family,
    table: &str,
    set: &str,
    parse: impl Fn(&Attributes<'_>) -> Option<T>,
) -> Result<Vec<T>, NetlinkError> {
    dump(|| {
        let mut batch = Batch::new();
        batch.message(GETSETELEM, DUMP).header(&family.header()).text(1, table).text(2, set);
        let mut found = Vec::new();
        socket.query(batch, |kind, payload| {
            if kind == NEWSETELEM {
                let elements = Attributes::after(payload, GENMSG).nested(3);
                found.extend(elements.filter_map(|(_, e)| parse(&Attributes::new(e))));
            }
        })?;
        Ok(found)
    })
}

/// The rules of a table, in their order: chain and fingerprint, which those of others do not have.
///
/// # Errors
/// See [`Socket::query`].
pub fn rules(socket: &mut Socket, table: &str) -> Result<Vec<(String, Option<u64>)>, NetlinkError> {
    dump(|| {
        let mut batch = Batch::new();
        batch.message(GETRULE, DUMP).header(&Family::Inet.header()).text(1, table);
        let mut found = Vec::new();
        socket.query(batch, |kind, payload| {
            let attributes = Attributes::after(payload, GENMSG);
            let of_table = attributes.find(1).map(text).as_deref() == Some(table);
            if kind == NEWRULE && of_table {
                let chain = attributes.find(2).map(text).unwrap_or_default();
                found.push((chain, attributes.find(NFTA_RULE_USERDATA).and_then(mark)));
            }
        })?;
        Ok(found)
    })
}

fn mark(data: &[u8]) -> Option<u64> {
    let (&[FINGERPRINT, 8], mark) = data.split_first_chunk::<2>()? else { return None };
    Some(u64::from_be_bytes(mark.try_into().ok()?))
}

/// Repeats a dump that the ruleset's changes interrupt; what is not there has nothing.
fn dump<T>(mut once: impl FnMut() -> Result<Vec<T>, NetlinkError>) -> Result<Vec<T>, NetlinkError> {
    for _ in 0..8 {
        match once() {
            Err(e) if e.errno() == Some(libc::ENOENT) => return Ok(Vec::new()),
            Err(e) if e.errno() == Some(libc::EINTR) => {}
            other => return other,
        }
    }
    Err(std::io::Error::from_raw_os_error(libc::EINTR).into())
}

/// Whether a notification tells of a change of `table`, or of something in it, that takes away from what its rules do:
/// also a new rule may.
pub fn is_harmful(family: Family, kind: u16, payload: &[u8], table: &str) -> bool {
    matches!(kind, DELTABLE | DELCHAIN | DELRULE | DELSET | DELSETELEM | NEWRULE | NEWCHAIN)
        && payload.first() == family.header().first()
        && Attributes::after(payload, GENMSG).find(1).map(text).as_deref() == Some(table)
}

/// A chain of somebody that can keep packets from being forwarded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForwardChain {
    /// Family of its table: `ip`, `ip6` or `inet`.
    pub family: &'static str,
    /// Its table.
    pub table: String,
    /// Its name.
    pub chain: String,
    /// What it does not decide about is dropped, by its policy or by its last rule.
    pub drops: bool,
    /// Some rule of the table is about the interface that was asked for.
    pub mentioned: bool,
}

/// The chains at the hook `forward` of all tables.
///
/// # Errors
/// See [`Socket::query`].
pub fn forward_chains(socket: &mut Socket, interface: &str) -> Result<Vec<ForwardChain>, NetlinkError> {
    let family = |payload: &[u8]| match payload.first() {
        Some(&NFPROTO_INET) => Some("inet"),
        Some(&NFPROTO_IPV4) => Some("ip"),
        Some(&NFPROTO_IPV6) => Some("ip6"),
        _ => None,
    };
    let mut chains = dump(|| {
        let mut batch = Batch::new();
        batch.message(GETCHAIN, DUMP).header(&[NFPROTO_UNSPEC, 0, 0, 0]);
        let mut found = Vec::new();
        socket.query(batch, |_, payload| {
            let a = Attributes::after(payload, GENMSG);
            // NF_INET_FORWARD
            let at_forward = a.nested(4).find(1) == Some(&2_u32.to_be_bytes());
            if let (true, Some(family)) = (at_forward, family(payload)) {
                found.push(ForwardChain {
                    family,
                    table: a.find(1).map(text).unwrap_or_default(),
                    chain: a.find(3).map(text).unwrap_or_default(),
                    drops: a.find(5) == Some(&0_u32.to_be_bytes()),
                    mentioned: false,
                });
            }
        })?;
        Ok(found)
    })?;
    if chains.is_empty() {
        return Ok(chains);
    }
    let name = [interface.as_bytes(), &[0]].concat();
    let rules = dump(|| {
        let mut batch = Batch::new();
        batch.message(GETRULE, DUMP).header(&[NFPROTO_UNSPEC, 0, 0, 0]);
        let mut found = Vec::new();
        socket.query(batch, |_, payload| {
            let a = Attributes::after(payload, GENMSG);
            let (table, chain) = (a.find(1).map(text), a.find(2).map(text));
            if let (Some(family), Some(table), Some(chain)) = (family(payload), table, chain) {
                let about = payload.windows(name.len()).any(|w| w == name);
                found.push((family, table, chain, about, drops_all(&a.nested(4))));
            }
        })?;
        Ok(found)
    })?;
    for chain in &mut chains {
        let of_table = |r: &&(&str, String, String, bool, bool)| r.0 == chain.family && r.1 == chain.table;
        let last = rules.iter().filter(of_table).rfind(|r| r.2 == chain.chain);
        let drops = last.is_some_and(|r| r.4);
        let mentioned = rules.iter().filter(of_table).any(|r| r.3);
        chain.drops |= drops;
        chain.mentioned = mentioned;
    }
    Ok(chains)
}

/// Whether a rule drops or rejects whatever comes to it.
fn drops_all(expressions: &Attributes<'_>) -> bool {
    let mut drops = false;
    for (_, expression) in expressions.clone() {
        let expression = Attributes::new(expression);
        let data = expression.nested(2);
        match expression.find(1).map(text).as_deref() {
            Some("counter" | "log") => {}
            Some("reject") => drops = true,
            // NFTA_IMMEDIATE_DATA, NFTA_DATA_VERDICT, NFTA_VERDICT_CODE: NF_DROP
            Some("immediate") => drops = data.nested(2).nested(2).find(1) == Some(&0_u32.to_be_bytes()),
            // NFTA_TARGET_NAME, of iptables
            Some("target") => drops = data.find(1).map(text).is_some_and(|t| t == "REJECT" || t == "DROP"),
            _ => return false,
        }
    }
    drops
}
