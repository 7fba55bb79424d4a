//! nf_tables transactions (`linux/netfilter/nfnetlink.h`, `linux/netfilter/nf_tables.h`), tables of family `ip`.
//!
//! Everything between `NFNL_MSG_BATCH_BEGIN` and `NFNL_MSG_BATCH_END` takes effect at once or not at all.

use super::message::{APPEND, Attributes, Batch, CREATE, DUMP, Message, text};
use super::nft_expr::{Expr, data};
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
const NFPROTO_IPV4: u8 = 2;
const NFT_SET_MAP: u32 = 0x8;
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

/// One part of a concatenated key or value, always padded to four bytes in the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// 4 bytes, network byte order.
    Ipv4,
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
            Self::Transport => 12,
            Self::Port => 13,
        }
    }
}

/// A key and a value of a map, each part padded to four bytes.
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
    batch: Batch,
    set_ids: u32,
}

impl Default for Transaction {
    fn default() -> Self {
        Self::new()
    }
}

impl Transaction {
    /// Nothing yet.
    pub fn new() -> Self {
        let mut batch = Batch::new();
        batch.message(BATCH_BEGIN, 0).header(&[NFPROTO_UNSPEC, 0, 0, SUBSYSTEM as u8]);
        Self { batch, set_ids: 0 }
    }

    /// Whether committing would change nothing.
    pub fn is_empty(&self) -> bool {
        self.batch.len() == 1
    }

    fn message(&mut self, kind: u16, flags: u16) -> Message<'_> {
        let mut m = self.batch.message(kind, flags);
        m.header(&[NFPROTO_IPV4, 0, 0, 0]);
        m
    }

    /// Creates a table unless it is there.
    pub fn add_table(&mut self, table: &str) {
        self.message(NEWTABLE, CREATE).text(1, table);
    }

    /// Deletes a table with all it holds; refused with `ENOENT` when it is not there.
    pub fn delete_table(&mut self, table: &str) {
        self.message(DELTABLE, 0).text(1, table);
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

    /// Creates a map unless it is there.
    pub fn add_map(&mut self, table: &str, map: &str, key: &[Part], value: &[Part]) {
        self.set_ids += 1;
        let id = self.set_ids;
        let kind = |parts: &[Part]| parts.iter().fold(0, |n, p| n << 6 | p.type_number());
        let mut m = self.message(NEWSET, CREATE);
        m.text(1, table)
            .text(2, map)
            .be32(3, NFT_SET_MAP)
            .be32(4, kind(key))
            .be32(5, 4 * key.len() as u32)
            .be32(6, kind(value))
            .be32(7, 4 * value.len() as u32)
            .be32(10, id);
    }

    /// Deletes every rule of the table.
    pub fn delete_rules(&mut self, table: &str) {
        self.message(DELRULE, 0).text(1, table);
    }

    /// Appends a rule to a chain.
    pub fn add_rule(&mut self, table: &str, chain: &str, rule: &[Expr]) {
        let mut m = self.message(NEWRULE, CREATE | APPEND);
        m.text(1, table).text(2, chain).nest(4, |m| rule.iter().for_each(|e| e.encode(m)));
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
                        if kind == NEWSETELEM {
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

/// Whether a table exists.
///
/// # Errors
/// See [`Socket::query`].
pub fn table_exists(socket: &mut Socket, table: &str) -> Result<bool, NetlinkError> {
    let mut batch = Batch::new();
    batch.message(GETTABLE, 0).header(&[NFPROTO_IPV4, 0, 0, 0]).text(1, table);
    match socket.query(batch, |_, _| {}) {
        Ok(()) => Ok(true),
        Err(e) if e.errno() == Some(libc::ENOENT) => Ok(false),
        Err(e) => Err(e),
    }
}

/// All elements of a map; none when the map or its table does not exist.
///
/// # Errors
/// See [`Socket::query`].
pub fn elements(socket: &mut Socket, table: &str, map: &str) -> Result<Vec<Element>, NetlinkError> {
    for _ in 0..8 {
        let mut batch = Batch::new();
        batch.message(GETSETELEM, DUMP).header(&[NFPROTO_IPV4, 0, 0, 0]).text(1, table).text(2, map);
        let mut found = Vec::new();
        match socket.query(batch, |kind, payload| {
            if kind == NEWSETELEM {
                found.extend(Attributes::after(payload, GENMSG).nested(3).filter_map(|(_, e)| element(e)));
            }
        }) {
            Ok(()) => return Ok(found),
            Err(e) if e.errno() == Some(libc::ENOENT) => return Ok(Vec::new()),
            Err(e) if e.errno() == Some(libc::EINTR) => {}
            Err(e) => return Err(e),
        }
    }
    Err(std::io::Error::from_raw_os_error(libc::EINTR).into())
}

fn element(bytes: &[u8]) -> Option<Element> {
    let attrs = Attributes::new(bytes);
    Some(Element {
        key: attrs.nested(NFTA_SET_ELEM_KEY).find(1)?.to_vec(),
        value: attrs.nested(NFTA_SET_ELEM_DATA).find(1)?.to_vec(),
    })
}

/// Number of rules in a table; 0 when it does not exist.
///
/// # Errors
/// See [`Socket::query`].
pub fn rule_count(socket: &mut Socket, table: &str) -> Result<usize, NetlinkError> {
    let mut batch = Batch::new();
    batch.message(GETRULE, DUMP).header(&[NFPROTO_IPV4, 0, 0, 0]).text(1, table);
    let mut count = 0;
    let ours =
        |payload: &[u8]| Attributes::after(payload, GENMSG).find(1).map(text).as_deref() == Some(table);
    match socket.query(batch, |kind, payload| count += usize::from(kind == NEWRULE && ours(payload))) {
        Ok(()) => Ok(count),
        Err(e) if e.errno() == Some(libc::ENOENT) => Ok(0),
        Err(e) => Err(e),
    }
}

/// Whether a notification tells of the removal of `table` or of something in it.
pub fn is_removal(kind: u16, payload: &[u8], table: &str) -> bool {
    matches!(kind, DELTABLE | DELCHAIN | DELRULE | DELSET | DELSETELEM)
        && payload.first() == Some(&NFPROTO_IPV4)
        && Attributes::after(payload, GENMSG).find(1).map(text).as_deref() == Some(table)
}
