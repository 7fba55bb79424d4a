//! Rules of others that keep containers' packets from being forwarded. An `accept` of ours is no help there: a packet passes
//! when every chain at the hook lets it. We change nobody's rules, so the user has to; we say where.

use ferry_sys::netlink::nft_expr::AddressFamily;
use ferry_sys::netlink::{Protocol, Socket, nft};
use ferry_sys::xtables;

/// A sentence for each chain that drops what containers behind `bridge` send or get, `own` being our table. Chains that
/// have a rule about the bridge are left out: somebody has thought of it.
pub(crate) fn find(own: &str, bridge: &str) -> Vec<String> {
    let mut found = Vec::new();
    let chains = Socket::open(Protocol::Netfilter)
        .map_err(Into::into)
        .and_then(|mut socket| nft::forward_chains(&mut socket, bridge));
    match chains {
        Ok(chains) => {
            let in_the_way = chains.into_iter().filter(|c| c.drops && !c.mentioned && c.table != own);
            found.extend(
                in_the_way.map(|c| {
                    sentence(&format!("chain {} of table {} {}", c.chain, c.family, c.table), bridge)
                }),
            );
        }
        Err(error) => tracing::debug!(%error, "others' chains not looked at"),
    }
    for (family, program) in [(AddressFamily::Ipv4, "iptables"), (AddressFamily::Ipv6, "ip6tables")] {
        if !xtables::tables(family).iter().any(|t| t == "filter") {
            continue;
        }
        match xtables::forwarding(family, bridge) {
            Ok(f) if f.drops && !f.mentioned => {
                found.push(sentence(&format!("chain FORWARD of {program}-legacy"), bridge));
            }
            Ok(_) => {}
            Err(error) => tracing::debug!(%error, program, "others' rules not looked at"),
        }
    }
    found
}

fn sentence(chain: &str, bridge: &str) -> String {
    format!("the {chain} drops forwarded packets and has no rule for {bridge}: containers may be cut off")
}
