//! nf_tables expressions: the instructions rules are made of (`linux/netfilter/nf_tables.h`).
//!
//! Registers: [`REG_1`] is 16 bytes wide; [`REG_1_1`] and [`REG_1_2`] are its second and third quarter, and [`REG_2`] the 16 bytes
//! behind it, so that a concatenation is loaded piecewise and looked up as one key, exactly as nft(8) compiles it.

use super::message::{Attributes, Message, text};

/// `NFT_REG_1`.
pub const REG_1: u32 = 1;
/// `NFT_REG32_01`: bytes 4 to 7 of register 1.
pub const REG_1_1: u32 = 9;
/// `NFT_REG32_02`: bytes 8 to 11 of register 1.
pub const REG_1_2: u32 = 10;
/// `NFT_REG_2`, whose first quarter is what follows register 1 in a concatenation.
pub const REG_2: u32 = 2;
/// `NFT_REG32_05`: bytes 4 to 7 of register 2.
pub const REG_2_1: u32 = 13;

const NFTA_LIST_ELEM: u16 = 1;
const NFTA_EXPR_NAME: u16 = 1;
const NFTA_EXPR_DATA: u16 = 2;
const NFTA_DATA_VALUE: u16 = 1;
const NFTA_DATA_VERDICT: u16 = 2;
const NFTA_VERDICT_CODE: u16 = 1;
const NFTA_VERDICT_CHAIN: u16 = 2;
const NFT_REG_VERDICT: u32 = 0;

/// The family of an address (`NFPROTO_*`, `linux/netfilter.h`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AddressFamily {
    /// `NFPROTO_IPV4`.
    Ipv4,
    /// `NFPROTO_IPV6`.
    Ipv6,
}

impl AddressFamily {
    /// The kernel's number.
    pub fn number(self) -> u8 {
        match self {
            Self::Ipv4 => 2,
            Self::Ipv6 => 10,
        }
    }
}

/// What happens to a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// `NF_DROP`.
    Drop,
    /// `NF_ACCEPT`.
    Accept,
    /// `NFT_RETURN`.
    Return,
    /// `NFT_JUMP` to a chain of the same table.
    Jump(String),
}

/// Keys of `meta` (`enum nft_meta_keys`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetaKey {
    /// `NFT_META_IIFNAME`, 16 bytes.
    InputName,
    /// `NFT_META_OIFNAME`, 16 bytes.
    OutputName,
    /// `NFT_META_NFPROTO`, 1 byte, see [`AddressFamily::number`].
    Family,
    /// `NFT_META_L4PROTO`, 1 byte.
    Transport,
}

/// Keys of `ct` (`enum nft_ct_keys`), bit masks of 4 bytes in host byte order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CtKey {
    /// `NFT_CT_STATE`: established is 2, related is 4.
    State,
    /// `NFT_CT_STATUS`: `IPS_DST_NAT` is 32.
    Status,
}

/// Where `payload` counts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Base {
    /// `NFT_PAYLOAD_NETWORK_HEADER`.
    Network,
    /// `NFT_PAYLOAD_TRANSPORT_HEADER`.
    Transport,
}

/// One instruction of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expr {
    /// Loads packet metadata.
    Meta {
        /// What.
        key: MetaKey,
        /// Destination register.
        to: u32,
    },
    /// Loads connection tracking data.
    Ct {
        /// What.
        key: CtKey,
        /// Destination register.
        to: u32,
    },
    /// Loads bytes of the packet.
    Payload {
        /// From which header.
        base: Base,
        /// First byte.
        offset: u32,
        /// Number of bytes.
        len: u32,
        /// Destination register.
        to: u32,
    },
    /// Writes bytes into the packet's transport header and puts its checksum right.
    Write {
        /// First byte.
        offset: u32,
        /// Number of bytes.
        len: u32,
        /// Source register.
        from: u32,
        /// Where the header has its checksum.
        checksum: u32,
    },
    /// Loads the destination address's type (`RTN_LOCAL` is 2).
    FibDestinationType {
        /// Destination register.
        to: u32,
    },
    /// Loads a constant.
    Load {
        /// The value.
        value: Vec<u8>,
        /// Destination register.
        to: u32,
    },
    /// `to = from & mask`.
    Mask {
        /// Register.
        register: u32,
        /// As long as the value.
        mask: Vec<u8>,
    },
    /// Goes on with the next instruction when equal (or unequal), with the next rule otherwise.
    Compare {
        /// Register.
        register: u32,
        /// Wanted.
        value: Vec<u8>,
        /// Wanted is anything else.
        not: bool,
    },
    /// Looks a key up in a map; on with the next rule when it is not there.
    Lookup {
        /// Name of the map.
        map: &'static str,
        /// Register of the key.
        from: u32,
        /// Register for the value.
        to: u32,
    },
    /// Goes on with the next instruction when a key is in a set, with the next rule otherwise.
    Member {
        /// Name of the set.
        set: &'static str,
        /// Register of the key.
        from: u32,
    },
    /// Takes the verdict a map has for a key; on with the next rule when it is not there.
    Dispatch {
        /// Name of the map.
        map: &'static str,
        /// Register of the key.
        from: u32,
    },
    /// Rewrites the destination of a packet of this family.
    Dnat {
        /// Of the address.
        family: AddressFamily,
        /// Register of the address.
        address: u32,
        /// Register of the port.
        port: u32,
    },
    /// Rewrites the source address of a packet of this family.
    Snat {
        /// Of the address.
        family: AddressFamily,
        /// Register of the address.
        address: u32,
    },
    /// Rewrites the source to the outgoing device's address.
    Masquerade,
    /// Ends the rule.
    Verdict(Verdict),
}

impl Expr {
    fn name(&self) -> &'static str {
        match self {
            Self::Meta { .. } => "meta",
            Self::Ct { .. } => "ct",
            Self::Payload { .. } | Self::Write { .. } => "payload",
            Self::FibDestinationType { .. } => "fib",
            Self::Mask { .. } => "bitwise",
            Self::Compare { .. } => "cmp",
            Self::Lookup { .. } | Self::Member { .. } | Self::Dispatch { .. } => "lookup",
            Self::Dnat { .. } | Self::Snat { .. } => "nat",
            Self::Masquerade => "masq",
            Self::Verdict(_) | Self::Load { .. } => "immediate",
        }
    }

    /// Appends the instruction to an expression list.
    pub(super) fn encode(&self, m: &mut Message<'_>) {
        m.nest(NFTA_LIST_ELEM, |m| {
            m.text(NFTA_EXPR_NAME, self.name()).nest(NFTA_EXPR_DATA, |m| self.encode_data(m));
        });
    }

    /// The attribute numbers are those of `enum nft_<name>_attributes`.
    fn encode_data(&self, m: &mut Message<'_>) {
        match self {
            Self::Meta { key, to } => {
                let key = match key {
                    MetaKey::InputName => 6,
                    MetaKey::OutputName => 7,
                    MetaKey::Family => 15,
                    MetaKey::Transport => 16,
                };
                m.be32(1, *to).be32(2, key);
            }
            Self::Ct { key, to } => {
                let key = match key {
                    CtKey::State => 0,
                    CtKey::Status => 2,
                };
                m.be32(1, *to).be32(2, key);
            }
            Self::Payload { base, offset, len, to } => {
                let base = match base {
                    Base::Network => 1,
                    Base::Transport => 2,
                };
                m.be32(1, *to).be32(2, base).be32(3, *offset).be32(4, *len);
            }
            // NFT_PAYLOAD_TRANSPORT_HEADER, NFT_PAYLOAD_CSUM_INET
            Self::Write { offset, len, from, checksum } => {
                m.be32(5, *from).be32(2, 2).be32(3, *offset).be32(4, *len).be32(6, 1).be32(7, *checksum);
            }
            // NFT_FIB_RESULT_ADDRTYPE, NFTA_FIB_F_DADDR
            Self::FibDestinationType { to } => {
                m.be32(1, *to).be32(2, 3).be32(3, 2);
            }
            Self::Load { value, to } => {
                m.be32(1, *to).nest(2, |m| data(m, value));
            }
            Self::Mask { register, mask } => {
                m.be32(1, *register).be32(2, *register).be32(3, mask.len() as u32);
                m.nest(4, |m| data(m, mask)).nest(5, |m| data(m, &vec![0; mask.len()]));
            }
            Self::Compare { register, value, not } => {
                m.be32(1, *register).be32(2, u32::from(*not)).nest(3, |m| data(m, value));
            }
            Self::Lookup { map, from, to } => {
                m.text(1, map).be32(2, *from).be32(3, *to);
            }
            Self::Member { set, from } => {
                m.text(1, set).be32(2, *from);
            }
            Self::Dispatch { map, from } => {
                m.text(1, map).be32(2, *from).be32(3, NFT_REG_VERDICT);
            }
            Self::Dnat { family, address, port } => {
                // NFT_NAT_DNAT
                m.be32(1, 1).be32(2, family.number().into()).be32(3, *address).be32(5, *port);
            }
            Self::Snat { family, address } => {
                // NFT_NAT_SNAT
                m.be32(1, 0).be32(2, family.number().into()).be32(3, *address);
            }
            Self::Masquerade => {}
            Self::Verdict(verdict) => {
                m.be32(1, NFT_REG_VERDICT).nest(2, |m| encode_verdict(m, verdict));
            }
        }
    }
}

/// Appends a literal.
pub(super) fn data(m: &mut Message<'_>, value: &[u8]) {
    m.attr(NFTA_DATA_VALUE, value);
}

/// Appends a verdict as data.
pub(super) fn encode_verdict(m: &mut Message<'_>, verdict: &Verdict) {
    let code: i32 = match verdict {
        Verdict::Drop => 0,
        Verdict::Accept => 1,
        Verdict::Jump(_) => -3,
        Verdict::Return => -5,
    };
    m.nest(NFTA_DATA_VERDICT, |m| {
        m.be32(NFTA_VERDICT_CODE, code as u32);
        if let Verdict::Jump(chain) = verdict {
            m.text(NFTA_VERDICT_CHAIN, chain);
        }
    });
}

/// The chain a verdict leads to, from data as the kernel tells it.
pub(super) fn chain_of(data: &Attributes<'_>) -> Option<String> {
    data.nested(NFTA_DATA_VERDICT).find(NFTA_VERDICT_CHAIN).map(text)
}
