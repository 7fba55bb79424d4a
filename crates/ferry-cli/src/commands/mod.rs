//! The table of commands. One file per command or per family of like ones; a command's doc comment is
//! its help text.

mod attach;
mod check;
mod commit;
mod context_archive;
mod context_edit;
mod contexts;
mod cp;
mod create;
mod credentials;
mod df;
mod dial;
mod diff;
mod events;
mod exec;
mod export;
mod history;
mod image_list;
mod image_rm;
mod image_save;
mod image_tree;
mod import;
mod info;
mod inspect;
mod kill;
mod later;
mod load;
mod login;
mod logs;
mod networks;
mod pause;
mod ports;
mod prune;
mod ps;
mod pull;
mod registry;
mod rename;
mod rm;
mod run;
mod start;
mod stats;
mod stop;
mod tag;
mod top;
mod update;
mod version;
mod volumes;
mod wait;

use serde_json::Value;

use crate::verb::{Spec, spec};

/// Help of `--format` of commands that list.
pub const LIST_FORMAT_HELP: &str = "Format output using a custom template:\n'table':            Print output in table format with column headers (default)\n'table TEMPLATE':   Print output in table format using the given Go template\n'json':             Print in JSON format\n'TEMPLATE':         Print output using the given Go template.\nRefer to https://docs.docker.com/go/formatting/ for more information about formatting output with templates";

/// Help of `--format` of commands that show objects.
pub const INSPECT_FORMAT_HELP: &str = "Format output using a custom template:\n'json':             Print in JSON format\n'TEMPLATE':         Print output using the given Go template.\nRefer to https://docs.docker.com/go/formatting/ for more information about formatting output with templates";

/// Groups of commands and what they are about.
pub const GROUPS: &[(&str, &str)] = &[
    ("builder", "Manage builds"),
    ("container", "Manage containers"),
    ("context", "Manage contexts"),
    ("image", "Manage images"),
    ("network", "Manage networks"),
    ("system", "Manage {product}"),
    ("volume", "Manage volumes"),
];

/// Commands that exist only to say that they do not yet.
pub const UNLISTED: &[&str] =
    &["swarm", "node", "service", "stack", "secret", "config", "plugin", "trust", "manifest", "checkpoint"];

/// Commands for programs, which no list shows.
pub const HIDDEN: &[&str] = &["system dial-stdio", "volume update"];

/// Every command.
pub const TABLE: &[Spec] = &[
    spec::<attach::Attach>(),
    spec::<check::Check>(),
    spec::<commit::Commit>(),
    spec::<context_archive::Export>(),
    spec::<context_archive::Import>(),
    spec::<context_edit::Create>(),
    spec::<context_edit::Remove>(),
    spec::<context_edit::Update>(),
    spec::<contexts::Inspect>(),
    spec::<contexts::List>(),
    spec::<contexts::Show>(),
    spec::<contexts::Use>(),
    spec::<cp::Copy>(),
    spec::<create::Create>(),
    spec::<df::DiskUsage>(),
    spec::<dial::DialStdio>(),
    spec::<diff::Diff>(),
    spec::<events::Events>(),
    spec::<exec::Exec>(),
    spec::<export::Export>(),
    spec::<history::History>(),
    spec::<image_list::Images>(),
    spec::<image_rm::RemoveImages>(),
    spec::<image_save::Save>(),
    spec::<import::Import>(),
    spec::<info::Info>(),
    spec::<inspect::Containers>(),
    spec::<inspect::Images>(),
    spec::<inspect::Inspect>(),
    spec::<inspect::Networks>(),
    spec::<inspect::Volumes>(),
    spec::<kill::Kill>(),
    spec::<later::Build>(),
    spec::<later::Checkpoint>(),
    spec::<later::Config>(),
    spec::<later::Manifest>(),
    spec::<later::Node>(),
    spec::<later::Plugin>(),
    spec::<later::Secret>(),
    spec::<later::Service>(),
    spec::<later::Stack>(),
    spec::<later::Swarm>(),
    spec::<later::Trust>(),
    spec::<load::Load>(),
    spec::<login::Login>(),
    spec::<login::Logout>(),
    spec::<logs::Logs>(),
    spec::<networks::Connect>(),
    spec::<networks::Create>(),
    spec::<networks::Disconnect>(),
    spec::<networks::List>(),
    spec::<networks::Remove>(),
    spec::<pause::Pause>(),
    spec::<pause::Unpause>(),
    spec::<ports::Port>(),
    spec::<prune::BuildCache>(),
    spec::<prune::Containers>(),
    spec::<prune::Images>(),
    spec::<prune::Networks>(),
    spec::<prune::System>(),
    spec::<prune::Volumes>(),
    spec::<ps::Ps>(),
    spec::<pull::Pull>(),
    spec::<registry::Push>(),
    spec::<registry::Search>(),
    spec::<rename::Rename>(),
    spec::<rm::Remove>(),
    spec::<run::Run>(),
    spec::<start::Start>(),
    spec::<stats::Stats>(),
    spec::<stop::Restart>(),
    spec::<stop::Stop>(),
    spec::<tag::Tag>(),
    spec::<top::Top>(),
    spec::<update::Update>(),
    spec::<version::Version>(),
    spec::<volumes::Create>(),
    spec::<volumes::List>(),
    spec::<volumes::Remove>(),
    spec::<volumes::Update>(),
    spec::<wait::Wait>(),
];

/// Labels as lists show them: `a=b,c=d`.
fn join_labels(labels: &Value) -> String {
    let pairs = labels.as_object().into_iter().flatten();
    pairs.map(|(k, v)| format!("{k}={}", v.as_str().unwrap_or_default())).collect::<Vec<_>>().join(",")
}

/// RFC 4648 section 4, with or without padding.
fn base64_decode(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len() * 3 / 4);
    let (mut bits, mut count) = (0_u32, 0);
    for b in text.trim_end_matches('=').bytes() {
        let value = match b {
            b'A'..=b'Z' => b - b'A',
            b'a'..=b'z' => b - b'a' + 26,
            b'0'..=b'9' => b - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push((bits >> count & 0xff) as u8);
        }
    }
    Some(out)
}

/// RFC 4648 section 5 (URL-safe), padded.
fn base64_encode(data: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut out = String::with_capacity(data.len().div_ceil(3) * 4);
    for chunk in data.chunks(3) {
        let n = chunk.iter().fold(0_u32, |n, b| n << 8 | u32::from(*b)) << (8 * (3 - chunk.len()));
        for i in 0..4 {
            if i <= chunk.len() {
                out.push(char::from(ALPHABET[(n >> (18 - 6 * i) & 63) as usize]));
            } else {
                out.push('=');
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_both_ways() {
        for text in ["", "a", "ab", "abc", "user:pass\u{fe}"] {
            assert_eq!(base64_decode(&base64_encode(text.as_bytes())).unwrap(), text.as_bytes());
        }
        assert_eq!(base64_encode(b"ab"), "YWI=");
        assert!(base64_decode("*").is_none());
    }

    #[test]
    fn every_command_has_help_and_a_group_that_exists() {
        for spec in TABLE {
            assert!(!crate::help::summary(spec, "ferry").is_empty(), "{:?}", spec.paths);
            for path in spec.paths {
                if let Some((group, _)) = path.split_once(' ') {
                    assert!(GROUPS.iter().any(|g| g.0 == group), "{path}");
                }
            }
            crate::usage::prepare((spec.define)()).debug_assert();
        }
    }
}
