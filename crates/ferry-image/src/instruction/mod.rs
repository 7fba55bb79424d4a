//! Dockerfile instructions given to import and commit as `--change`: the ones that only set the image
//! config. Their syntax is the Dockerfile's.

mod healthcheck;
mod words;

use std::collections::BTreeMap;

use ferry_types::{Classify, ErrorKind};

use crate::config::{ContainerConfig, Empty};

/// Why a change is refused; the texts follow Docker's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InstructionError {
    /// Not an instruction that changes a config.
    #[error("{0} is not a valid change command")]
    NotAllowed(String),
    /// The instruction has too few words.
    #[error("{0} requires at least one argument")]
    NeedsArgument(&'static str),
    /// The instruction has too many words.
    #[error("{0} requires exactly one argument")]
    OneArgument(&'static str),
    /// An assignment without `=`.
    #[error("Syntax error - can't find = in {0:?}. Must be of the form: name=value")]
    NoEquals(String),
    /// An assignment without a name.
    #[error("{0} names can not be blank")]
    BlankName(&'static str),
    /// A quote or a `${` that is not closed.
    #[error("failed to process {word:?}: {reason}")]
    Word {
        /// The word.
        word: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// EXPOSE with something that is no port.
    #[error("invalid containerPort: {0}")]
    Port(String),
    /// An ONBUILD trigger that cannot be one.
    #[error("{0} isn't allowed as an ONBUILD trigger")]
    Trigger(String),
    /// ONBUILD within ONBUILD.
    #[error("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")]
    Chained,
    /// A volume without a name.
    #[error("VOLUME specified can not be an empty string")]
    EmptyVolume,
    /// STOPSIGNAL with something that is no signal.
    #[error("invalid signal: {0}")]
    Signal(String),
    /// A malformed HEALTHCHECK.
    #[error("HEALTHCHECK: {0}")]
    Healthcheck(String),
}

impl Classify for InstructionError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::InvalidParameter
    }
}

type Result<T> = std::result::Result<T, InstructionError>;

/// Applies `changes` in order to `config`. On an error `config` is half changed and to be dropped.
///
/// # Errors
/// When one is not allowed or malformed.
pub fn apply_changes(config: &mut ContainerConfig, changes: &[String]) -> Result<()> {
    let mut cmd_set = false;
    for line in changes.iter().flat_map(|c| logical_lines(c)) {
        let (name, rest) = line.split_once(char::is_whitespace).unwrap_or((&line, ""));
        let rest = rest.trim();
        match name.to_ascii_uppercase().as_str() {
            "CMD" => {
                config.cmd = Some(command("CMD", rest, config)?);
                config.args_escaped = false;
                cmd_set = true;
            }
            "ENTRYPOINT" => {
                config.entrypoint = Some(command("ENTRYPOINT", rest, config)?);
                // An inherited command was meant for the inherited entry point.
                if !cmd_set {
                    config.cmd = None;
                }
            }
            "ENV" => {
                for (key, value) in assignments("ENV", rest, config, true)? {
                    set_env(&mut config.env, &key, &value);
                }
            }
            "LABEL" => {
                let pairs = assignments("LABEL", rest, config, false)?;
                config.labels.extend(pairs);
            }
            "EXPOSE" => expose(config, rest)?,
            "ONBUILD" => config.on_build.push(trigger(rest)?),
            "USER" => config.user = one("USER", rest, config)?,
            "WORKDIR" => {
                let dir = one("WORKDIR", rest, config)?;
                config.working_dir = join_dir(&config.working_dir, &dir);
            }
            "VOLUME" => volumes(config, rest)?,
            "STOPSIGNAL" => config.stop_signal = signal(&one("STOPSIGNAL", rest, config)?)?,
            "HEALTHCHECK" => config.healthcheck = Some(healthcheck::parse(rest)?),
            _ => return Err(InstructionError::NotAllowed(name.to_owned())),
        }
    }
    Ok(())
}

/// Lines without comments, continued ones joined.
fn logical_lines(text: &str) -> Vec<String> {
    let (mut lines, mut current) = (Vec::new(), String::new());
    for line in text.lines() {
        let line = line.trim();
        if line.starts_with('#') {
            continue;
        }
        if let Some(part) = line.strip_suffix('\\') {
            current.push_str(part);
            continue;
        }
        current.push_str(line);
        let done = std::mem::take(&mut current);
        if !done.trim().is_empty() {
            lines.push(done.trim().to_owned());
        }
    }
    if !current.trim().is_empty() {
        lines.push(current.trim().to_owned());
    }
    lines
}

/// Exec form (a JSON array of strings) as it is, anything else through the image's shell.
fn command(name: &'static str, rest: &str, config: &ContainerConfig) -> Result<Vec<String>> {
    if rest.is_empty() {
        return Err(InstructionError::NeedsArgument(name));
    }
    if let Some(list) = json_list(rest) {
        return Ok(list);
    }
    let mut words = config.shell.clone();
    if words.is_empty() {
        words = vec!["/bin/sh".to_owned(), "-c".to_owned()];
    }
    words.push(rest.to_owned());
    Ok(words)
}

fn json_list(rest: &str) -> Option<Vec<String>> {
    if rest.starts_with('[') { serde_json::from_str(rest).ok() } else { None }
}

fn env_map(config: &ContainerConfig) -> BTreeMap<String, String> {
    config
        .env
        .iter()
        .map(|e| e.split_once('=').unwrap_or((e, "")))
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .collect()
}

fn one(name: &'static str, rest: &str, config: &ContainerConfig) -> Result<String> {
    if rest.is_empty() {
        return Err(InstructionError::OneArgument(name));
    }
    words::expand(rest, &env_map(config))
}

/// `k=v k2="v 2"`, or for the old form of ENV `k the rest`. All values see the old environment.
fn assignments(
    name: &'static str,
    rest: &str,
    config: &ContainerConfig,
    old_form: bool,
) -> Result<Vec<(String, String)>> {
    let env = env_map(config);
    let split = words::split(rest)?;
    let first = split.first().ok_or(InstructionError::NeedsArgument(name))?;
    if old_form && !first.contains('=') {
        let (key, value) =
            rest.split_once(char::is_whitespace).ok_or_else(|| InstructionError::NoEquals(first.clone()))?;
        return Ok(vec![(words::expand(key, &env)?, words::expand(value.trim(), &env)?)]);
    }
    let pair = |word: &String| {
        let (key, value) = word.split_once('=').ok_or_else(|| InstructionError::NoEquals(word.clone()))?;
        let key = words::expand(key, &env)?;
        if key.is_empty() {
            return Err(InstructionError::BlankName(name));
        }
        Ok((key, words::expand(value, &env)?))
    };
    split.iter().map(pair).collect()
}

/// Sets a variable in place, or appends it.
pub fn set_env(env: &mut Vec<String>, key: &str, value: &str) {
    let entry = format!("{key}={value}");
    match env.iter_mut().find(|e| e.split('=').next() == Some(key)) {
        Some(old) => *old = entry,
        None => env.push(entry),
    }
}

fn expose(config: &mut ContainerConfig, rest: &str) -> Result<()> {
    let env = env_map(config);
    let split = words::split(rest)?;
    if split.is_empty() {
        return Err(InstructionError::NeedsArgument("EXPOSE"));
    }
    for word in split {
        let word = words::expand(&word, &env)?;
        let bad = || InstructionError::Port(word.clone());
        let (ports, protocol) = word.split_once('/').unwrap_or((&word, "tcp"));
        let protocol = protocol.to_ascii_lowercase();
        if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
            return Err(bad());
        }
        let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
        let (first, last): (u16, u16) = (first.parse().map_err(|_| bad())?, last.parse().map_err(|_| bad())?);
        if first > last {
            return Err(bad());
        }
        config.exposed_ports.extend((first..=last).map(|p| (format!("{p}/{protocol}"), Empty {})));
    }
    Ok(())
}

fn trigger(rest: &str) -> Result<String> {
    let name = rest.split_whitespace().next().unwrap_or_default().to_ascii_uppercase();
    match name.as_str() {
        "" => Err(InstructionError::NeedsArgument("ONBUILD")),
        "ONBUILD" => Err(InstructionError::Chained),
        "FROM" | "MAINTAINER" => Err(InstructionError::Trigger(name)),
        _ => Ok(rest.to_owned()),
    }
}

fn volumes(config: &mut ContainerConfig, rest: &str) -> Result<()> {
    let env = env_map(config);
    let paths = match json_list(rest) {
        Some(list) => list,
        None => rest.split_whitespace().map(str::to_owned).collect(),
    };
    if paths.is_empty() {
        return Err(InstructionError::NeedsArgument("VOLUME"));
    }
    for path in paths {
        let path = words::expand(path.trim(), &env)?;
        if path.is_empty() {
            return Err(InstructionError::EmptyVolume);
        }
        config.volumes.insert(path, Empty {});
    }
    Ok(())
}

/// A number or a name with or without `SIG`; the engine knows the names that exist.
fn signal(text: &str) -> Result<String> {
    let ok = match text.parse::<u32>() {
        Ok(n) => (1..=64).contains(&n),
        Err(_) => text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-')),
    };
    if ok { Ok(text.to_owned()) } else { Err(InstructionError::Signal(text.to_owned())) }
}

/// A relative directory continues the one before.
fn join_dir(base: &str, dir: &str) -> String {
    let full = if dir.starts_with('/') { dir.to_owned() } else { format!("/{base}/{dir}") };
    let mut parts: Vec<&str> = Vec::new();
    for part in full.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(changes: &[&str]) -> Result<ContainerConfig> {
        let mut config = ContainerConfig {
            env: vec!["PATH=/bin".to_owned()],
            cmd: Some(vec!["old".to_owned()]),
            ..Default::default()
        };
        let changes: Vec<String> = changes.iter().map(|s| (*s).to_owned()).collect();
        apply_changes(&mut config, &changes)?;
        Ok(config)
    }

    #[test]
    fn commands_in_both_forms() {
        let config = applied(&[r#"CMD ["a", "b c"]"#, "entrypoint echo hi"]).unwrap();
        assert_eq!(config.cmd.unwrap(), ["a", "b c"]);
        assert_eq!(config.entrypoint.unwrap(), ["/bin/sh", "-c", "echo hi"]);
        assert_eq!(applied(&["ENTRYPOINT x"]).unwrap().cmd, None);
        assert_eq!(applied(&["CMD [bad"]).unwrap().cmd.unwrap(), ["/bin/sh", "-c", "[bad"]);
    }

    #[test]
    fn environment_and_labels() {
        let config = applied(&[
            r#"ENV A=1 B="two words" C=it\ is"#,
            "ENV PATH=$PATH:/x",
            "ENV OLD form  of it",
            "ENV D=${NONE:-dflt}${A:+set} E='$A'",
            "LABEL a.b=c \"x y\"=z",
        ])
        .unwrap();
        assert_eq!(
            config.env,
            ["PATH=/bin:/x", "A=1", "B=two words", "C=it is", "OLD=form  of it", "D=dfltset", "E=$A"]
        );
        assert_eq!(config.labels["a.b"], "c");
        assert_eq!(config.labels["x y"], "z");
    }

    #[test]
    fn the_rest() {
        let config = applied(&[
            "EXPOSE 80 53/udp 8000-8002",
            "VOLUME /a /b",
            r#"VOLUME ["/c d"]"#,
            "WORKDIR /x",
            "WORKDIR y/../z",
            "USER 1:2",
            "STOPSIGNAL SIGTERM",
            "ONBUILD RUN make",
        ])
        .unwrap();
        let ports: Vec<_> = config.exposed_ports.keys().map(String::as_str).collect();
        assert_eq!(ports, ["53/udp", "80/tcp", "8000/tcp", "8001/tcp", "8002/tcp"]);
        let volumes: Vec<_> = config.volumes.keys().map(String::as_str).collect();
        assert_eq!(volumes, ["/a", "/b", "/c d"]);
        assert_eq!((config.working_dir.as_str(), config.user.as_str()), ("/x/z", "1:2"));
        assert_eq!(config.on_build, ["RUN make"]);
    }

    #[test]
    fn wrong_ones_are_refused() {
        for bad in [
            "RUN x",
            "COPY a b",
            "ENV",
            "ENV a",
            "LABEL x",
            "EXPOSE http",
            "EXPOSE 70000",
            "EXPOSE 9-8",
            "ONBUILD ONBUILD RUN x",
            "ONBUILD FROM x",
            "USER",
            "CMD",
            "VOLUME",
            "STOPSIGNAL a b",
            "ENV a=\"b",
            "ENV =x",
            "HEALTHCHECK",
            "HEALTHCHECK CMD",
            "HEALTHCHECK --interval=x CMD y",
            "HEALTHCHECK --retries=-1 CMD y",
            "HEALTHCHECK --foo=1 CMD y",
            "nonsense",
        ] {
            assert!(applied(&[bad]).is_err(), "{bad}");
        }
        assert_eq!(applied(&["RUN x"]).unwrap_err().to_string(), "RUN is not a valid change command");
    }

    #[test]
    fn health() {
        let health = applied(&["HEALTHCHECK --interval=1m30s --retries=2 CMD curl -f http://x"])
            .unwrap()
            .healthcheck
            .unwrap();
        assert_eq!(health.test, ["CMD-SHELL", "curl -f http://x"]);
        assert_eq!((health.interval, health.retries), (90_000_000_000, 2));
        let none = applied(&["HEALTHCHECK NONE"]).unwrap().healthcheck.unwrap();
        assert_eq!(none.test, ["NONE"]);
    }
}
