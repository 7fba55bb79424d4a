//! nf_tables expressions: the instructions rules are made of (`linux/netfilter/nf_tables.h`).
//!
//! Registers: [`REG_1`] is 16 bytes wide; [`REG_1_1`] and [`REG_1_2`] are its second and third quarter, so that a
//! concatenation is loaded piecewise and looked up as one key, exactly as nft(8) compiles it.

use super::message::Message;

/// `NFT_REG_1`.
pub const REG_1: u32 = 1;
/// `NFT_REG32_01`: bytes 4 to 7 of register 1.
pub const REG_1_1: u32 = 9;
/// `NFT_REG32_02`: bytes 8 to 11 of register 1.
pub const REG_1_2: u32 = 10;

const NFTA_LIST_ELEM: u16 = 1;
const NFTA_EXPR_NAME: u16 = 1;
const NFTA_EXPR_DATA: u16 = 2;
const NFTA_DATA_VALUE: u16 = 1;
const NFTA_DATA_VERDICT: u16 = 2;
const NFTA_VERDICT_CODE: u16 = 1;
const NFTA_VERDICT_CHAIN: u16 = 2;
const NF_INET_IPV4: u32 = 2;

/// What happens to a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// `NF_DROP`.
    Drop,
    /// `NF_ACCEPT`.
    Accept,
    /// `NFT_RETURN`.
    Return,
    /// `NFT_JUMP` to a chain of the same table.
    Jump(&'static str),
}

/// Keys of `meta` (`enum nft_meta_keys`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetaKey {
    /// `NFT_META_IIFNAME`, 16 bytes.
    InputName,
    /// `NFT_META_OIFNAME`, 16 bytes.
    OutputName,
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
    /// Rewrites the destination, IPv4.
    Dnat {
        /// Register of the address.
        address: u32,
        /// Register of the port.
        port: u32,
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
            Self::Payload { .. } => "payload",
            Self::FibDestinationType { .. } => "fib",
            Self::Mask { .. } => "bitwise",
            Self::Compare { .. } => "cmp",
            Self::Lookup { .. } => "lookup",
            Self::Dnat { .. } => "nat",
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
            Self::Dnat { address, port } => {
                // NFT_NAT_DNAT
                m.be32(1, 1).be32(2, NF_INET_IPV4).be32(3, *address).be32(5, *port);
            }
            Self::Masquerade => {}
            Self::Verdict(verdict) => {
                // NFT_REG_VERDICT
                m.be32(1, 0).nest(2, |m| {
                    m.nest(NFTA_DATA_VERDICT, |m| encode_verdict(m, *verdict));
                });
            }
        }
    }
}

/// Appends a literal.
pub(super) fn data(m: &mut Message<'_>, value: &[u8]) {
    m.attr(NFTA_DATA_VALUE, value);
}

fn encode_verdict(m: &mut Message<'_>, verdict: Verdict) {
    let code: i32 = match verdict {
        Verdict::Drop => 0,
        Verdict::Accept => 1,
        Verdict::Jump(_) => -3,
        Verdict::Return => -5,
    };
    m.be32(NFTA_VERDICT_CODE, code as u32);
    if let Verdict::Jump(chain) = verdict {
        m.text(NFTA_VERDICT_CHAIN, chain);
    }
}
