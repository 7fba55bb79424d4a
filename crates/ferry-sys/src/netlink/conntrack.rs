//! Connection tracking entries of UDP flows (`linux/netfilter/nfnetlink_conntrack.h`).

use std::net::IpAddr;

use super::message::{Attributes, Batch, DUMP};
use super::nft::GENMSG;
use super::nft_expr::AddressFamily;
use super::socket::{NetlinkError, Socket};

const SUBSYSTEM: u16 = 1;
const CT_GET: u16 = SUBSYSTEM << 8 | 1;
const CT_DELETE: u16 = SUBSYSTEM << 8 | 2;
const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_ZONE: u16 = 18;
const CTA_FILTER: u16 = 25;
const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTO_DST_PORT: u16 = 3;
const CTA_PROTO_SRC_PORT: u16 = 2;
const UDP: u8 = 17;

/// A tracked UDP flow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UdpFlow {
    /// Port the client sent to.
    pub original_port: u16,
    /// Address the client sent to.
    pub original_address: IpAddr,
    /// Address that answers.
    pub reply_address: IpAddr,
    /// Port that answers.
    pub reply_port: u16,
    tuple: Vec<u8>,
    zone: Option<Vec<u8>>,
}

fn parse(payload: &[u8]) -> Option<UdpFlow> {
    let attrs = Attributes::after(payload, GENMSG);
    let tuple = attrs.find(CTA_TUPLE_ORIG)?;
    let original = Attributes::new(tuple);
    let reply = attrs.nested(CTA_TUPLE_REPLY);
    if original.nested(CTA_TUPLE_PROTO).find(CTA_PROTO_NUM)? != [UDP] {
        return None;
    }
    let port = |a: &Attributes<'_>, kind| {
        Some(u16::from_be_bytes(a.nested(CTA_TUPLE_PROTO).find(kind)?.try_into().ok()?))
    };
    // CTA_IP_V4_SRC and _DST are 1 and 2, CTA_IP_V6_SRC and _DST 3 and 4.
    let address = |a: &Attributes<'_>, kind| {
        let ip = a.nested(CTA_TUPLE_IP);
        let v4 = || Some(IpAddr::from(<[u8; 4]>::try_from(ip.find(kind)?).ok()?));
        let v6 = || Some(IpAddr::from(<[u8; 16]>::try_from(ip.find(kind + 2)?).ok()?));
        v4().or_else(v6)
    };
    Some(UdpFlow {
        original_port: port(&original, CTA_PROTO_DST_PORT)?,
        original_address: address(&original, 2)?,
        reply_address: address(&reply, 1)?,
        reply_port: port(&reply, CTA_PROTO_SRC_PORT)?,
        tuple: tuple.to_vec(),
        zone: attrs.find(CTA_ZONE).map(<[u8]>::to_vec),
    })
}

/// Deletes the UDP flows of a family that `doomed` picks, and returns how many there were.
///
/// # Errors
/// See [`Socket::query`].
pub fn delete_udp(
    socket: &mut Socket,
    family: AddressFamily,
    doomed: impl Fn(&UdpFlow) -> bool,
) -> Result<usize, NetlinkError> {
    let mut batch = Batch::new();
    // Linux 5.8 and later compare the protocol already in the kernel: CTA_FILTER_F_CTA_PROTO_NUM.
    batch
        .message(CT_GET, DUMP)
        .header(&[family.number(), 0, 0, 0])
        .nest(CTA_TUPLE_ORIG, |m| {
            m.nest(CTA_TUPLE_PROTO, |m| {
                m.attr(CTA_PROTO_NUM, &[UDP]);
            });
        })
        .nest(CTA_FILTER, |m| {
            m.u32(1, 1 << 3);
        });
    let mut flows = Vec::new();
    socket.query(batch, |_, payload| flows.extend(parse(payload).filter(&doomed)))?;
    let mut batch = Batch::new();
    for flow in &flows {
        let mut m = batch.message(CT_DELETE, 0);
        m.header(&[family.number(), 0, 0, 0]).attr(CTA_TUPLE_ORIG | 0x8000, &flow.tuple);
        if let Some(zone) = &flow.zone {
            m.attr(CTA_ZONE, zone);
        }
    }
    socket.execute_lenient(batch, &|_, errno| errno == libc::ENOENT)?;
    Ok(flows.len())
}
