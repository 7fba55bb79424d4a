//! Swarms, nodes, services, tasks, secrets and configs: answered as by a Docker that is in no swarm.

use ferry_types::ErrorKind;
use serde::de::IgnoredAny;

use crate::error::HttpError;
use crate::reply::Reply;
use crate::request::{Call, discard};
use crate::router::Swarm;

pub(crate) const NO_SWARM: &str = "This node is not a swarm manager. Use \"docker swarm init\" or \
                                   \"docker swarm join\" to connect this node to swarm and try again.";

/// Makes the checks Docker makes first, then says that there is no swarm.
pub(crate) async fn answer(mut call: Call, endpoint: Swarm) -> Reply {
    let refused = check(&mut call, &endpoint).await.err();
    discard(&mut call.body).await;
    Err(refused.unwrap_or_else(|| match endpoint {
        Swarm::Init | Swarm::Join => {
            HttpError::not_implemented("swarms: not supported by this version of ferry")
        }
        Swarm::Leave => HttpError::new(ErrorKind::Unavailable, "This node is not part of a swarm"),
        Swarm::Read
        | Swarm::Write
        | Swarm::List
        | Swarm::Update(_)
        | Swarm::UpdateOpaque(_)
        | Swarm::Logs => HttpError::new(ErrorKind::Unavailable, NO_SWARM),
    }))
}

async fn check(call: &mut Call, endpoint: &Swarm) -> crate::error::Result<()> {
    match endpoint {
        Swarm::Write | Swarm::Init | Swarm::Join => call.json_or_default::<IgnoredAny>().await.map(drop),
        Swarm::Update(what) => {
            call.json_or_default::<IgnoredAny>().await?;
            let text = call.query.get("version");
            parse_version(text).map_err(|why| {
                let what = format!("invalid {what} version '{text}'");
                HttpError::invalid(format!("{what}: strconv.ParseUint: parsing {text:?}: {why}"))
            })
        }
        Swarm::UpdateOpaque(what) => {
            call.json_or_default::<IgnoredAny>().await?;
            parse_version(call.query.get("version"))
                .map_err(|_| HttpError::invalid(format!("invalid {what} version")))
        }
        Swarm::List => call.query.filters().map(drop),
        Swarm::Logs if !call.query.bool("stdout") && !call.query.bool("stderr") => {
            Err(HttpError::invalid("Bad parameters: you must choose at least one stream"))
        }
        Swarm::Logs | Swarm::Read | Swarm::Leave => Ok(()),
    }
}

fn parse_version(text: &str) -> Result<(), &'static str> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    match text.parse::<u64>() {
        Ok(_) if digits => Ok(()),
        Err(_) if digits => Err("value out of range"),
        _ => Err("invalid syntax"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_unsigned_numbers() {
        assert_eq!(parse_version("12"), Ok(()));
        assert_eq!(parse_version("+1"), Err("invalid syntax"));
        assert_eq!(parse_version(""), Err("invalid syntax"));
        assert_eq!(parse_version("99999999999999999999"), Err("value out of range"));
    }
}
